"""The tables of the papers beside what run folders hold."""
