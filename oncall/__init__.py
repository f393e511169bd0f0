"""Answers for the on-call engineer: the serving version and its origin, failed runs and their causes, the way back.

    python -m oncall why latest

Reads run records, logs, ML Metadata and the registry; changes nothing unless a command says so. Imports no TensorFlow
and no TFX, but for `resume`, which runs a pipeline.
"""

__all__: list[str] = []
