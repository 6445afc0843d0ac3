"""One module per release: its files -> `plvl.data.records.Record`s."""
