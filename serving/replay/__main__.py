"""The command of a replay: how the decisions of a version differ from the logged ones of the champion.

python -m serving.replay --log requests --model-dir runs/census-income/registry/census-income --version 3
"""

import json
import os
from pathlib import Path

import click

from cli.errors import ConfigError, NotBlessedError
from cli.terminal import exit_on_error, quiet_stderr

EPILOG = """\b
Exit codes: 0 the bound is kept, or there are too few rows; 2 a flag is wrong; 3 the log cannot be read or lacks a
column; 4 the bound is exceeded; 5 the version cannot be loaded; 130 interrupted."""
_MAX_SLICES = 10


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--log",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FOLDER",
    help="Folder that a server has written with --log-requests.",
)
@click.option(
    "--model-dir", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="The model's registry folder."
)
@click.option("--version", type=click.IntRange(0), metavar="N", help="Version that predicts.  [default: the candidate]")
@click.option(
    "--answered-by", type=click.IntRange(0), metavar="N", help="Version of the logged answers.  [default: the champion]"
)
@click.option("--rows", type=click.IntRange(1), default=100_000, show_default=True, help="Latest rows to replay.")
@click.option(
    "--min-rows", type=click.IntRange(1), default=100, show_default=True, help="Least number of rows that is judged."
)
@click.option(
    "--max-changed",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Largest share of changed decisions, overall and in each slice.",
)
@click.option(
    "--slice-by", "slice_by", multiple=True, metavar="COLUMN", help="Column whose values are slices. May be repeated."
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=0.01,
    show_default=True,
    help="Largest relative difference of a predicted number that is no other decision.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def main(
    log: Path,
    model_dir: Path,
    version: int | None,
    answered_by: int | None,
    rows: int,
    min_rows: int,
    max_changed: float,
    slice_by: tuple[str, ...],
    tolerance: float,
    as_json: bool,
) -> None:
    """Let a version predict logged requests, and compare its decisions with the logged ones."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with exit_on_error(as_json=as_json, interrupted="interrupted; nothing was changed"):
        from cli.errors import PushError
        from serving.registry import LocalRegistry

        if not model_dir.is_dir():
            raise ConfigError(f"--model-dir: {model_dir} is not a folder; expected the model's, in its registry")
        registry = LocalRegistry(model_dir.absolute().parent, model_dir.absolute().name)
        labels = registry.read_labels()
        number = labels.get("candidate") if version is None else version
        if number is None:
            raise ConfigError(f"--version: {model_dir} has no candidate; name a version")
        if number not in registry.list_numbers():
            numbers = ", ".join(map(str, registry.list_numbers())) or "none"
            raise ConfigError(f"--version: {model_dir} has no version {number}; it has {numbers}")
        # Only now: it imports TensorFlow, whose start-up messages hide the result.
        with quiet_stderr():
            from serving.model import tensorflow_without_keras  # noqa: F401
            from serving.model.session_model import ModelError
            from serving.model.tensor_predictor import load_predictor
            from serving.replay.decisions import ReplayOptions, replay

            try:
                predictor = load_predictor(registry.find_folder(number))
            except ModelError as error:
                raise PushError(str(error)) from error
        options = ReplayOptions(rows, min_rows, tolerance, [(column,) for column in slice_by])
        before = labels.get("champion") if answered_by is None else answered_by
        result = replay(log, registry.name, before, predictor, options)
        excess = result.find_excess(max_changed)
        if as_json and not excess:
            click.echo(json.dumps({"candidate": number, **result.to_dict()}, indent=2))
            return
        if not as_json:
            click.echo(result.headline)
            for part in result.slices[:_MAX_SLICES]:
                click.echo(f"  {part.share:7.2%} of {part.rows:>7,} rows  {part.name}")
        if excess:
            raise NotBlessedError(f"replay of version {number}: {excess} (--max-changed)")


if __name__ == "__main__":
    main()
