"""edgeft: from a dataset to a small model on a device, proven to be the model that was trained."""

__version__ = "0.1.0"
