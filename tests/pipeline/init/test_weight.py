"""The column of weights in `init`."""

from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.init.test_starter import init, load_and_check

pytestmark = pytest.mark.integration


def write_survey(folder: Path, weight: str = "fnlwgt", **changes: str) -> None:
    random = np.random.default_rng(1)
    ages = random.uniform(18, 90, 600)
    weights = random.uniform(10, 99, 600)
    lines = [f"age,{weight},vote"]
    for number, (age, value) in enumerate(zip(ages, weights, strict=True)):
        lines.append(
            f"{age:.2f},{changes.get(f'row{number}', f'{value:.3f}')},{'yes' if age > random.uniform(0, 108) else 'no'}"
        )
    (folder / "survey.csv").write_text("\n".join(lines) + "\n")


def test_a_column_that_is_named_like_a_weight_is_only_noted(tmp_path: Path) -> None:
    write_survey(tmp_path)
    done = init(tmp_path, "survey.csv", "--label", "vote", "--verbose")
    assert (
        "note: 'fnlwgt' is not used as a weight; if it is the weight of a row, as in a survey, declare "
        "data.weight_column (--weight fnlwgt)\n"
    ) in done.stdout
    assert load_and_check(tmp_path, "survey").data.weight_column is None


def test_the_flag_writes_the_weight_into_config_and_schema(tmp_path: Path) -> None:
    write_survey(tmp_path)
    done = init(tmp_path, "survey.csv", "--label", "vote", "--weight", "fnlwgt")
    assert done.returncode == 0, done.stderr
    assert "note: " not in done.stdout and "schemas/survey.pbtxt: 3 columns" in done.stdout
    loaded = load_and_check(tmp_path, "survey")
    assert (loaded.data.weight_column, [*loaded.features]) == ("fnlwgt", ["age"])


@pytest.mark.parametrize(("value", "reason"), [("-1", "-1"), ("", "none in 0.2% of the rows")])
def test_a_column_that_cannot_be_one_of_weights_is_rejected(value: str, reason: str, tmp_path: Path) -> None:
    write_survey(tmp_path, row7=value)
    done = init(tmp_path, "survey.csv", "--label", "vote", "--weight", "fnlwgt")
    assert done.stderr == (
        f"error: --weight fnlwgt: expected a number of at least 0 in each row, found {reason}; correct the rows, or "
        "leave the flag out\n"
    )


def test_the_weight_is_neither_the_label_nor_kept(tmp_path: Path) -> None:
    write_survey(tmp_path)
    done = init(tmp_path, "survey.csv", "--label", "vote", "--weight", "fnlwgt", "--keep", "fnlwgt")
    assert done.stderr == "error: --weight fnlwgt: is named by --keep too; name it once\n"
