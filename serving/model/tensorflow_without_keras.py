"""Imports TensorFlow without Keras, for processes that only serve: a SavedModel does not need Keras.

At the end of its import, TensorFlow imports Keras for the optimizers in a SavedModel. Keras imports scikit-learn,
pandas, IPython and matplotlib if they are installed. That is half of the start-up time of a server. Keras can still be
imported later.
"""

import gc
import sys

# TensorFlow imports one of these modules, and continues without it. The second is that of Keras 2, which
# tensorflow_transform selects with an environment variable that child processes inherit.
_EAGER = ("keras.src.optimizers", "tf_keras.src.optimizers")

if "tensorflow" not in sys.modules:
    # https://docs.python.org/3/reference/import.html#the-module-cache: None makes an import fail.
    sys.modules.update(dict.fromkeys(_EAGER))  # type: ignore[arg-type]
    # The import creates a million objects that stay; garbage collections would take a tenth of its time, and as much
    # again of later imports.
    gc.disable()
    try:
        import tensorflow  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()
        for name in _EAGER:
            del sys.modules[name]
