"""What an engineer on call asks: what serves, from which run and data, which node failed and why, how to get back.

    python -m oncall why latest

Reads run records, logs, ML Metadata and the registry; changes nothing unless a command says so. Imports no TensorFlow
and no TFX, but for `resume`, which runs a pipeline.
"""

__all__: list[str] = []
