"""The thin floor under the three packages: losses, metrics, images, run folders, model folders."""
