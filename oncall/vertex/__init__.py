"""Runs, ML Metadata and model versions on Vertex AI."""
