"""Declares the decision on a binary label: the costs of its two errors, and the threshold that a model decides by.

Imports no TensorFlow.
"""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, model_validator

from cli.counts import format_count
from schemas.declaration import Declaration

# The threshold of a model without declared costs: the more likely class.
DEFAULT_THRESHOLD = 0.5
# With costs further apart, float32 probabilities near 0 or 1 do not separate the rows.
_MAX_COST_RATIO = 1e6

# Strict: `true` is not a cost.
Cost = Annotated[float, Field(gt=0, le=1e12, strict=True)]


class DecisionCosts(Declaration):
    """Costs of the two errors of a binary label, in any one unit. The served model predicts the positive value where
    that costs less: above cost_false_positive / (cost_false_positive + cost_false_negative), where the probabilities
    are exact (Elkan 2001, The Foundations of Cost-Sensitive Learning). Another threshold is used if it costs
    significantly less on `eval`. The costs are at most 1,000,000 times apart, and at most 1e12."""

    cost_false_positive: Cost
    """Cost of predicting the positive value for a row of the negative one."""
    cost_false_negative: Cost
    """Cost of predicting the negative value for a row of the positive one."""

    @model_validator(mode="after")
    def _check_ratio(self) -> "DecisionCosts":
        low, high = sorted((self.cost_false_positive, self.cost_false_negative))
        if high > low * _MAX_COST_RATIO:
            raise ValueError(
                f"cost_false_positive: {self.cost_false_positive:g} and cost_false_negative: "
                f"{self.cost_false_negative:g} are more than {_MAX_COST_RATIO:,.0f} times apart; no threshold on a "
                "probability separates such errors"
            )
        return self

    def __str__(self) -> str:
        return f"false positive {self.cost_false_positive:g}, false negative {self.cost_false_negative:g}"


class DecisionThreshold(Declaration):
    """The threshold of a model, and why it has that one: the model predicts the positive value above it.

    Attributes:
      threshold: a float32 number, which the model's graph compares its probability with.
      costs: costs that it was chosen by; None for `DEFAULT_THRESHOLD`.
      chosen_by: `eval` if the rows decided; `costs` if no other threshold was significantly better on them.
      rows: number of rows of `eval` that were compared.
      mean_cost: mean cost of these rows at `threshold`; None without a row.
      mean_cost_at_default: mean cost of these rows at `DEFAULT_THRESHOLD`.
    """

    threshold: Annotated[float, Field(gt=0, lt=1)] = DEFAULT_THRESHOLD
    costs: DecisionCosts | None = None
    chosen_by: Literal["default", "costs", "eval"] = "default"
    rows: NonNegativeInt = 0
    mean_cost: float | None = None
    mean_cost_at_default: float | None = None

    def __str__(self) -> str:
        if self.costs is None:
            return f"threshold {self.threshold:.4g}"
        rows = f"{format_count(self.rows, 'row')} of eval"
        by_costs = f"by the costs, as none is significantly better on {rows}"
        reason = f"chosen on {rows}" if self.chosen_by == "eval" else by_costs
        text = f"threshold {self.threshold:.4g} ({self.costs}; {reason})"
        if self.mean_cost is None or self.mean_cost_at_default is None:
            return text
        default = f"{self.mean_cost_at_default:.4g} at {DEFAULT_THRESHOLD}"
        return f"{text}: mean cost {self.mean_cost:.4g} on eval, {default}"
