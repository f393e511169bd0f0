"""Profiles of a table's columns: types, times, relations to the label. Imports no TensorFlow."""
