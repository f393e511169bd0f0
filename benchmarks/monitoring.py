"""The benchmarks of docs/monitoring.md, one after the other: request log, outcomes, shadow and split.

make run && python -m benchmarks.monitoring         # needs wrk: apt-get install wrk; half an hour
"""

from pathlib import Path

import click

from benchmarks import outcomes, request_log, shadow


@click.command()
@click.option("--registry", type=click.Path(path_type=Path), default=Path("runs/census-income/registry"))
@click.option("--model", default="census-income", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=11, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=1, show_default=True, help="Length of a measurement.")
@click.option("--outcomes", "pairs", type=click.IntRange(1), default=10_000_000, show_default=True, help="Labels.")
@click.pass_context
def main(context: click.Context, registry: Path, model: str, rounds: int, seconds: int, pairs: int) -> None:
    """Measure a server with and without a log, a join of outcomes, and servers with and without a shadow or split."""
    served = {"registry": registry, "model": model, "rounds": rounds, "seconds": seconds}
    click.echo("request log")
    context.invoke(request_log.main, **served)
    click.echo("\noutcomes")
    context.invoke(outcomes.main, rows=pairs)
    click.echo("\nshadow and split")
    context.invoke(shadow.main, **served)


if __name__ == "__main__":
    main()
