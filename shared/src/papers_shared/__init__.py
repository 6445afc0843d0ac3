"""The thin floor under the three packages: losses, metrics, pictures, run folders, model folders."""
