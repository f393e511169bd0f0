"""The pipeline: its config, its DAG, and the run on this machine."""

__version__ = "0.1.0"
