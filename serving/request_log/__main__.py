"""The request log: import that of Vertex AI.

python -m serving.request_log import --project my-project --region europe-west4 --model census-income --folder logs
"""

import datetime
import json
import re
from pathlib import Path

import click
from pydantic import ValidationError

from cli.errors import ConfigError
from cli.terminal import exit_on_error

EPILOG = """\b
Exit codes: 0 done, also if there is nothing new; 2 a flag is wrong; 3 the log cannot be read, is none of Vertex AI, or
has no request at all, or FOLDER cannot be written; 5 the registry or the bucket cannot be read; 130 interrupted. After
an error, run the command again: no request is imported twice."""

_AGE = re.compile(r"(\d+)([dhm])")
_BUCKET_FOLDER = re.compile(r"gs://[^/*]+/[^*]+")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Fill a request log from elsewhere; `python -m serving --log-requests` writes one."""


@main.command(name="import", epilog=EPILOG)
@click.option("--project", envvar="VERTEX_PROJECT", required=True, help="The Google Cloud project.")
@click.option("--region", envvar="VERTEX_REGION", required=True, help="The region, such as europe-west4.")
@click.option("--model", envvar="VERTEX_MODEL", required=True, metavar="NAME", help="push.model_name.")
@click.option("--endpoint", help="The endpoint's name.  [default: the model's]")
@click.option("--api-endpoint", envvar="VERTEX_API_ENDPOINT", help="HOST:PORT of another API, an emulator's.")
@click.option(
    "--bigquery",
    "table",
    metavar="TABLE",
    help="PROJECT.DATASET.TABLE.  [default: the table of the endpoint's setting]",
)
@click.option("--bucket", metavar="URI", help="gs:// folder of an export of the table: Parquet, or JSON lines.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the request log; all commands that read one take it.",
)
@click.option(
    "--since",
    metavar="TIME",
    help="Read again from here: 7d, 12h, 30m, or a time such as 2026-11-30.  [default: the end of the last import]",
)
@click.option("--log-key", "key", default="", metavar="COLUMN", help="Column that joins requests with their outcomes.")
@click.option("--log-sensitive", is_flag=True, help="Write sensitive columns too.")
@click.option("--copy-to", metavar="URI", help="gs:// folder that gets new shards, for jobs on Vertex AI.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def import_command(
    project: str,
    region: str,
    model: str,
    endpoint: str | None,
    api_endpoint: str | None,
    table: str | None,
    bucket: str | None,
    folder: Path,
    since: str | None,
    key: str,
    log_sensitive: bool,
    copy_to: str | None,
    as_json: bool,
) -> None:
    """Import the request-response log of an endpoint on Vertex AI as shards of FOLDER.

    A repeated import adds what is new. Requests of unknown deployments, golden requests and malformed rows are
    counted, and left out.
    """
    with exit_on_error(as_json=as_json, interrupted="interrupted; run the command again: no request is imported twice"):
        if table and bucket:
            raise ConfigError("--bigquery and --bucket: name one of them")
        if copy_to and not _BUCKET_FOLDER.fullmatch(copy_to):
            raise ConfigError(f"--copy-to {copy_to}: expected the URI of a folder, such as gs://my-bucket/request-log")
        start = _parse_time(since) if since else None
        # A second of imports.
        from serving.registry.vertex import staging
        from serving.registry.vertex.config import TABLE, VertexProject
        from serving.registry.vertex.connection import VertexClient
        from serving.registry.vertex.registry import open_deployed
        from serving.request_log.shards import SHARD_PATTERN
        from serving.request_log.vertex_import import ImportOptions, import_log
        from serving.request_log.vertex_table import BigQueryTable, ExportedFiles

        try:
            place = VertexProject(project=project, region=region, api_endpoint=api_endpoint)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            flag, rule = str(problem["loc"][0]).replace("_", "-"), problem["msg"].removeprefix("Value error, ")
            raise ConfigError(f"--{flag}: {rule}, found {problem['input']!r}") from error
        vertex = VertexClient(place, report=lambda line: click.echo(line, err=True))
        deployments = open_deployed(vertex, model, endpoint).list_deployments()
        setting = deployments.request_log
        table = table or (setting.table if setting is not None else None)
        if not table and not bucket:
            name = deployments.endpoint.rpartition("/")[2]
            raise ConfigError(
                f"--bigquery: endpoint {name} logs nothing now; name the table of an earlier log, or set "
                "push.vertex.request_log, and push"
            )
        if not bucket and not TABLE.fullmatch(str(table)):
            raise ConfigError(f"--bigquery {table}: expected PROJECT.DATASET.TABLE, such as my-project.logs.requests")
        source = ExportedFiles(bucket, project) if bucket else BigQueryTable(project, str(table))
        sample = setting.sampling_rate if setting is not None else 1.0
        options = ImportOptions(model, project, sample, start, key, log_sensitive)
        report = import_log(source, folder, deployments, options)
        document, lines = report.to_json(), report.format_lines()
        if copy_to:
            copied = staging.copy_new(sorted(folder.glob(SHARD_PATTERN)), copy_to, project=project)
            document["copied"] = copied
            lines.append(f"  copied to {copy_to}: {len(copied)} of the shards")
        click.echo(json.dumps(document, indent=2) if as_json else "\n".join(lines))


def _parse_time(text: str) -> datetime.datetime:
    """Return a time, or an age before now.

    Raises:
      ConfigError: It is neither.
    """
    age = _AGE.fullmatch(text)
    now = datetime.datetime.now(datetime.UTC)
    if age is not None:
        return now - datetime.timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"--since {text}: expected an age such as 7d, 12h or 30m, or a time such as 2026-11-30T02:00:00"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)


if __name__ == "__main__":
    main()
