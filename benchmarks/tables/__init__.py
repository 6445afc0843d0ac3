"""The tables and figures of the papers beside what run folders and benchmarks hold."""
