"""A network of the user's own: `build_model(features, config)` of `model.module`.

The inputs of the Keras model are transformed columns by name, or the matrices `ids` and `numbers` of
`serving.model.network_inputs`. Its output is logits, or for a regression a number in the unit of `model.label_scale`.
Fit, calibration, signatures and serving are those of the built-in network.
"""

from collections.abc import Mapping
from typing import Any

import keras

from cli.errors import PipelineError
from schemas.declaration import suggest_name
from schemas.features import FeatureSet
from schemas.user_code import BUILD_MODEL, UserCode, load_training_function
from serving.model.network_inputs import IDS, NUMBERS, compute_places
from trainer.config import Model
from trainer.model import WideAndDeep

_PROBABILITIES = ("sigmoid", "softmax", "log_softmax", "logsoftmax")


def build_own_outputs(
    code: UserCode, features: FeatureSet, model: Model, inputs: Mapping[str, Any], outputs: int
) -> Any:
    """Return what the user's model makes of the network's inputs, [batch, outputs] or [batch, members, outputs].

    Args:
      code: Code of `model.module`.
      features: Declaration of the inputs.
      model: Section of the config.
      inputs: Keras's inputs `ids` and `numbers`.
      outputs: Number of logits or numbers.

    Raises:
      PipelineError: The function raises, returns no Keras model, or one of other inputs or outputs.
    """
    function = load_training_function(code)
    name = getattr(function, "__name__", BUILD_MODEL)
    with code.report_errors(name, function):
        built = function(features, model)
    where = f"{code.key}: {code.locate(function)}: {name}"
    if isinstance(built, WideAndDeep):
        # The built-in network, changed or not; its prediction is added again, with the statistics of the labels.
        built = built.trained_part
    if not isinstance(built, keras.Model):
        raise PipelineError(f"{where} returns {type(built).__name__}; return a keras.Model")
    with code.report_errors(f"the model of {name}", function):
        learned = built(_select_inputs(where, built, features, inputs))
    _check_outputs(where, built, learned, features, outputs)
    return learned


def _check_outputs(where: str, built: keras.Model, learned: Any, features: FeatureSet, outputs: int) -> None:
    kind = "logit" if features.label.classes else "number"
    expected = f"expected one {kind}" if outputs == 1 else f"expected {outputs} {kind}s, one for each class"
    if not hasattr(learned, "shape"):
        raise PipelineError(
            f"{where} returns a model whose output is a {type(learned).__name__}; {expected}: (None, {outputs})"
        )
    shape = tuple(learned.shape)
    if len(shape) not in (2, 3) or shape[-1] != outputs:
        raise PipelineError(f"{where} returns a model with outputs of shape {shape}; {expected}: (None, {outputs})")
    if not keras.backend.is_float_dtype(learned.dtype):
        raise PipelineError(f"{where} returns a model with outputs of type {learned.dtype}; {expected}: float32")
    last = _find_activation(built)
    if features.label.classes and last in _PROBABILITIES:
        raise PipelineError(
            f"{where} returns a model that ends in {last}; the training takes logits: remove the activation"
        )


def _find_activation(built: keras.Model) -> str | None:
    """Return the name of the function that a model ends in, as an activation, a layer or an operation."""
    last = next(reversed(getattr(built, "operations", built.layers)), None)
    activation = getattr(last, "activation", None)
    return getattr(activation, "__name__", None) if activation is not None else type(last).__name__.lower()


def _select_inputs(where: str, built: keras.Model, features: FeatureSet, inputs: Mapping[str, Any]) -> Any:
    """Return the inputs in the structure that the model has; a model without declared inputs gets both matrices."""
    try:
        declared = built.input
    except (AttributeError, ValueError):
        return dict(inputs)
    id_places, number_places = compute_places(features.id_columns), compute_places(features.number_columns)

    def select(tensor: Any) -> Any:
        name = tensor.name
        if name in inputs:
            return inputs[name]
        for matrix, columns in ((IDS, id_places), (NUMBERS, number_places)):
            if name in columns:
                start, stop = columns[name].start, columns[name].stop
                selected = inputs[matrix][:, start:stop]
                if tensor.shape[1:] not in ((), (None,), (stop - start,)) or tensor.dtype == "string":
                    raise PipelineError(
                        f"{where} returns a model with the input '{name}' of shape {tuple(tensor.shape)} and type "
                        f"{tensor.dtype}; the transformed column has shape (None, {stop - start}) and type "
                        f"{selected.dtype}"
                    )
                return keras.ops.squeeze(selected, axis=1) if len(tensor.shape) == 1 else selected
        hint = suggest_name(name, [*id_places, *number_places])
        raise PipelineError(
            f"{where} returns a model with the input '{name}', which is not a transformed column; {hint}"
        )

    return keras.tree.map_structure(select, declared)
