"""Serves a model over HTTP.

python -m serving --model-dir runs/census-income/registry/census-income/1
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from schemas.errors import PipelineError, PushError

EPILOG = """\b
In a container of Vertex AI nothing is set: AIP_STORAGE_URI, AIP_HTTP_PORT, AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE are.
Exit codes: 2 a flag is wrong; 5 the model cannot be fetched or loaded."""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--model-dir", envvar="AIP_STORAGE_URI", required=True, help="Folder or gs:// of a version.  [env: AIP_STORAGE_URI]"
)
@click.option("--host", help="Address to bind.  [default: 127.0.0.1; 0.0.0.0 in a container of Vertex AI]")
@click.option(
    "--port", type=click.IntRange(0, 65535), envvar="AIP_HTTP_PORT", default=8080, show_default=True, help="Port."
)
def main(model_dir: str, host: str | None, port: int) -> None:
    """Answer POST /predict from a model until Ctrl-C; GET /health answers once it is loaded."""
    try:
        with tempfile.TemporaryDirectory() as temporary:
            application = _application(_fetched(model_dir, Path(temporary)))
    except PipelineError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    import uvicorn

    uvicorn.run(application, host=host or ("0.0.0.0" if "AIP_HTTP_PORT" in os.environ else "127.0.0.1"), port=port)


def _fetched(model: str, folder: Path) -> Path:
    if not model.startswith("gs://"):
        return Path(model)
    from serving.vertex import staging

    staging.fetch(model, folder)
    return folder


def _application(folder: Path) -> Any:
    from serving.predictor import Predictor
    from serving.server import application

    try:
        predictor = Predictor(folder)
    except (OSError, KeyError, ValueError) as error:
        raise PushError(f"{folder}: no model can be loaded from it: {str(error).splitlines()[0]}") from error
    routes = {
        name: os.environ[variable]
        for name, variable in (("health_route", "AIP_HEALTH_ROUTE"), ("predict_route", "AIP_PREDICT_ROUTE"))
        if os.environ.get(variable)
    }
    return application(predictor, **routes)


if __name__ == "__main__":
    main()
