"""One module per kind of files: they -> `plvl.data.items.Item`s."""
