"""Counts that the paper gives of its data set."""

ZEROWASTE_F = {"train": 3002, "val": 572, "test": 929}
"""Images of ZeroWaste-f by split, section 4.1."""
