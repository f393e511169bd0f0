"""The command of the rule, for cron: promote, reject or roll back a version by what was measured.

python -m serving.rollout --model-dir runs/census-income/registry/census-income --server http://127.0.0.1:8501 --yes
"""

import json
from pathlib import Path

import click

from cli.errors import ConfigError
from cli.terminal import exit_on_error
from serving.registry import LocalRegistry, State
from serving.rollout.evidence import LiveQualities, read_quality, read_servers
from serving.rollout.rule import QUESTIONS, Bounds
from serving.rollout.step import carry_out, decide

EPILOG = """\b
A candidate is promoted if it keeps all bounds, and rejected if it exceeds one. Without a candidate, a champion that
exceeds one is rolled back. The whole 95 % interval of a measurement must be on one side; else the rule waits. The
registry's history keeps the reason.

\b
Exit codes: 0 done, or the rule waits; 2 a flag is wrong; 3 a server or a file has no measurements; 5 the registry
cannot be read or changed; 130 interrupted. Without --yes nothing is changed."""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--model-dir", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="The model's registry folder."
)
@click.option(
    "--server",
    "servers",
    multiple=True,
    required=True,
    metavar="URL",
    help="Model server with --split or --shadow. May be repeated.",
)
@click.option("--token-file", type=click.Path(path_type=Path), help="File with the servers' bearer token.")
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path),
    help="Authorities of the servers' certificates.  [default: the system's]",
)
@click.option(
    "--judge",
    "questions",
    type=click.Choice(QUESTIONS),
    multiple=True,
    default=("errors", "latency", "decisions"),
    show_default=True,
    help="Question that a promotion needs an answer to. May be repeated.",
)
@click.option(
    "--min-requests", type=click.IntRange(1), default=1000, show_default=True, help="Least number of each version."
)
@click.option(
    "--max-more-errors",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Largest difference of the shares of requests with an error.",
)
@click.option(
    "--max-latency-ratio",
    type=click.FloatRange(0, min_open=True),
    default=1.25,
    show_default=True,
    help="Largest ratio of the 95th percentiles of the time to answer.",
)
@click.option(
    "--max-changed",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Largest share of changed decisions of the shadow.",
)
@click.option(
    "--outcomes",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Output of python -m oncall outcomes --json, for --judge quality.",
)
@click.option(
    "--metric",
    default="",
    help="Metric of --outcomes.  [default: the first that is compared with the evaluation]",
)
@click.option("--yes", is_flag=True, help="Do it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def main(
    model_dir: Path,
    servers: tuple[str, ...],
    token_file: Path | None,
    ca_file: Path | None,
    questions: tuple[str, ...],
    min_requests: int,
    max_more_errors: float,
    max_latency_ratio: float,
    max_changed: float,
    outcomes: Path | None,
    metric: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Promote, reject or roll back a version by what servers and outcomes measured."""
    with exit_on_error(as_json=as_json, interrupted="interrupted; run the command again"):
        # With it comes pydantic.
        from schemas.metrics import METRICS

        if ("quality" in questions) != (outcomes is not None):
            raise ConfigError("--outcomes: the file and --judge quality belong together; name both or none")
        quality: LiveQualities = {}
        if outcomes is not None:
            metric, quality = read_quality(outcomes, metric)
        better = METRICS[metric].better if metric in METRICS else None
        if better is None and outcomes is not None:
            names = ", ".join(name for name, entry in METRICS.items() if entry.better is not None)
            raise ConfigError(f"--metric: '{metric}' has no direction; expected one of {names}")
        folder = model_dir.absolute()
        if not folder.is_dir():
            raise ConfigError(f"--model-dir: {model_dir} is not a folder; expected the model's, in its registry")
        registry = LocalRegistry(folder.parent, folder.name)
        ledger = registry.read_ledger()
        candidate = ledger.find_by_state(State.CANDIDATE)
        step = decide(
            ledger,
            questions,
            Bounds(min_requests, max_more_errors, max_latency_ratio, max_changed),
            read_servers(servers, _read_token(token_file), ca_file, candidate),
            quality,
            higher_is_better=better == "higher",
        )
        changed = yes and carry_out(registry, step)
        if as_json:
            click.echo(
                json.dumps({**step.to_dict(), "changed": changed, "serving": registry.read_champion()}, indent=2)
            )
            return
        for judgement in step.judgements:
            click.echo(f"  {judgement}")
        what = "waits" if step.action == "wait" else f"{step.action} of version {step.version}"
        more = "; add --yes to do it" if step.action != "wait" and not yes else ""
        click.echo(f"{what}: {step.reason}{more}")


def _read_token(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        lines = file.read_text().split()
    except OSError as error:
        raise ConfigError(f"--token-file: {file} cannot be read: {error.strerror}") from error
    if not lines:
        raise ConfigError(f"--token-file: {file} has no token")
    return lines[0]


if __name__ == "__main__":
    main()
