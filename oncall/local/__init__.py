"""Runs, ML Metadata and model versions of this machine."""
