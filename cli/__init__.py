"""Errors, exit codes, terminal output, progress and interrupts, which every command shares. Imports no TensorFlow."""
