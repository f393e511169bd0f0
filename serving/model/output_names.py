"""Names of the outputs of a served model that metrics are computed from. Imports no TensorFlow."""

from collections.abc import Mapping

from schemas.features import LabelKind

PROBABILITY = "probability"
PROBABILITIES = "probabilities"
PREDICTION = "prediction"
# The output that metrics are computed from.
MEASURED_OUTPUT: Mapping[LabelKind, str] = {
    "binary": PROBABILITY,
    "multiclass": PROBABILITIES,
    "regression": PREDICTION,
}
