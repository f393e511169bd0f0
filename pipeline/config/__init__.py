"""The config of a pipeline: read, checked and documented. Imports no TensorFlow."""
