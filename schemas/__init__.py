"""Data: feature declarations, curated schemas, rows of files as typed columns. Imports no TensorFlow."""
