"""Writes a config and a curated schema for a table nobody has described yet: `python -m pipeline init`.

Every choice is a line of the config with its reason beside it. Imports no TensorFlow.
"""
