"""The benchmark suite: `python -m benchmarks`. It imports the packages; nothing imports it. See README.md."""
