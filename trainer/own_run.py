"""Module file of TFX's Trainer for a `run_fn` of the user's own: calls it, and checks that it has exported a model.

Trainer(run_fn="trainer.own_run.run_fn", custom_config={"user_code": ..., ...})
"""

import os
from typing import Any

import tensorflow as tf

from cli.errors import PipelineError
from schemas.user_code import RUN_FN, UserCode, load_training_function

CODE_KEY = "user_code"


def run_fn(fn_args: Any) -> None:
    """Call the function of `model.module`. `fn_args` is TFX's FnArgs.

    Raises:
      PipelineError: The function raises, or it exports no model with a serving signature.
    """
    code = UserCode.from_json(fn_args.custom_config[CODE_KEY])
    function = load_training_function(code)
    name = getattr(function, "__name__", RUN_FN)
    with code.report_errors(name, function):
        function(fn_args)
    where = f"{code.key}: {code.locate(function)}: {name}"
    folder = fn_args.serving_model_dir
    if not tf.io.gfile.exists(os.path.join(folder, "saved_model.pb")):
        raise PipelineError(
            f"{where} exported no model; end it with "
            "tf.saved_model.save(model, fn_args.serving_model_dir, signatures={'serving_default': ...})"
        )
    if "serving_default" not in _read_signatures(folder):
        raise PipelineError(
            f"{where} exported a model without the signature 'serving_default'; give tf.saved_model.save a function of "
            "serialized tf.Example: signatures={'serving_default': ...}"
        )


def _read_signatures(folder: str) -> list[str]:
    """Return the names of the signatures of a SavedModel, without loading it."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    with tf.io.gfile.GFile(os.path.join(folder, "saved_model.pb"), "rb") as file:
        saved.ParseFromString(file.read())
    return [*saved.meta_graphs[0].signature_def]
