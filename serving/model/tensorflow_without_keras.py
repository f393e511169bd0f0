"""Loads TensorFlow without Keras, for processes that only serve: a SavedModel needs none of it.

As its last act TensorFlow loads Keras, so that optimizers in a SavedModel are known; and Keras loads whatever it finds
of scikit-learn, pandas, IPython and matplotlib. That is half of the time that a server takes to start. Keras can still
be imported later.
"""

import gc
import sys

# TensorFlow looks for one of these very modules, and continues without it. The second is Keras 2's, which
# tensorflow_transform asks for, by an environment variable that the processes it starts inherit.
_EAGER = ("keras.src.optimizers", "tf_keras.src.optimizers")

if "tensorflow" not in sys.modules:
    # https://docs.python.org/3/reference/import.html#the-module-cache: None is "not to be found".
    sys.modules.update(dict.fromkeys(_EAGER))  # type: ignore[arg-type]
    # A million objects that stay; to look for garbage among them takes a tenth of the time.
    gc.disable()
    try:
        import tensorflow  # noqa: F401
    finally:
        gc.enable()
        for name in _EAGER:
            del sys.modules[name]
