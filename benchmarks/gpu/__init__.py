"""`python -m benchmarks gpu`: correctness of the networks on a GPU, then their speed, within a number of minutes."""
