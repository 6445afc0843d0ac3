"""One module for each way in which a data folder names images, masks and classes. Nothing here decodes an image."""
