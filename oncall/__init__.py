"""Commands and pages for the on-call engineer: the serving version and its origin, failed runs, and the way back.

    python -m oncall why latest

They read run records, logs, ML Metadata and the registry, and change nothing unless a command's help names the change.
Only `resume`, which runs a pipeline, imports TensorFlow and TFX.
"""

__all__: list[str] = []
