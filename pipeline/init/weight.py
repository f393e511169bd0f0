"""The column of the rows' weights: the one that the user names, or a hint that a column may be one."""

import re
from collections.abc import Mapping

from cli.errors import DataError
from pipeline.init.notes import Notes, Rank
from pipeline.init.requests import Requests
from pipeline.profile.columns import Column

# Of surveys and samples. A column `weight` may as well be that of a body.
_WEIGHT_NAME = re.compile(
    r"^((sample|sampling|survey|example|instance|case|person|final|pw|f)?[\W_]?(weights?|wgt|wt)|fnlwgt|perwt|hhwt)$",
    re.IGNORECASE,
)


def check_weight(columns: Mapping[str, Column], requests: Requests, notes: Notes) -> None:
    """Check the column of weights that the user names; without one, note columns that may be weights by their name.

    Args:
      columns: Columns of the table by name.
      requests: Choices of the user.
      notes: Gets the hints.

    Raises:
      DataError: A value is missing or is not a number from 0 on.
    """
    if requests.weight is not None:
        problem = _find_problem(columns[requests.weight])
        if problem:
            raise DataError(
                f"--weight {requests.weight}: expected a number of at least 0 in each row, found {problem}; correct "
                "the rows, or leave the flag out"
            )
        return
    for name, column in columns.items():
        is_named = _WEIGHT_NAME.match(name) and name not in (requests.label, *requests.drop, *requests.keep)
        if is_named and not _find_problem(column) and column.distinct > 1:
            notes.add(
                Rank.CHOICE,
                f"'{name}' is not used as a weight; if it is the weight of a row, as in a survey, declare "
                f"data.weight_column (--weight {name})",
            )


def _find_problem(column: Column) -> str:
    """Return why a column cannot be one of weights; empty if it can."""
    if column.missing_share:
        return f"none in {column.missing_share:.1%} of the rows"
    if not column.is_number:
        return repr((column.not_numbers or [column.values[0][0]])[0])
    if column.compute_quantile(0) < 0:
        return f"{column.compute_quantile(0):g}"
    return "only 0" if column.compute_quantile(1) == 0 else ""
