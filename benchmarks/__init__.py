"""Measurements: never part of a timed test, each printed with the command that makes it."""
