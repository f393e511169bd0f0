"""All that is known of the runs of a pipeline on Vertex AI."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import click
from pydantic import ValidationError

from cli.errors import ConfigError
from cli.terminal import flags
from oncall.evidence import LATEST
from oncall.sources import Listed, Releases, Run
from oncall.vertex.files import Bucket
from oncall.vertex.jobs import Jobs, state_of
from oncall.vertex.metadata import VertexMetadata
from pipeline.run.records import RunRecord, State
from pipeline.run.rejections import Rejection
from pipeline.vertex.jobs import JOB_ID
from serving.registry.vertex.config import Place
from serving.registry.vertex.connection import Vertex

_SHOWN = 5
_AT_ONCE = 8
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,127}")


@dataclass(frozen=True)
class Where:
    """What the flags say: the project, the region, one pipeline or all, and perhaps another API."""

    project: str
    region: str | None
    pipeline: str | None = None
    api_endpoint: str | None = None
    is_endpoint_typed: bool = False

    def flags(self) -> str:
        """As they are given on a command line, with a space before each."""
        endpoint = self.api_endpoint if self.is_endpoint_typed else None
        return flags(project=self.project, region=self.region, api_endpoint=endpoint, pipeline=self.pipeline)

    def of_project(self) -> str:
        """Return the same without the pipeline, for tools whose config or model names it."""
        return replace(self, pipeline=None).flags()

    def checked(self) -> Place:
        """Raise ConfigError where a flag is missing or wrong."""
        if self.region is None:
            raise ConfigError("--region: is missing; expected one such as europe-west4 (or VERTEX_REGION)")
        try:
            return Place(project=self.project, region=self.region, api_endpoint=self.api_endpoint)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            flag, rule = str(problem["loc"][0]).replace("_", "-"), problem["msg"].removeprefix("Value error, ")
            raise ConfigError(f"--{flag}: {rule}, found {problem['input']!r}") from error


class VertexEvidence:
    """What Vertex AI knows; nothing is read before it is asked for."""

    def __init__(self, where: Where) -> None:
        """Connect to Vertex AI.

        Raises:
          ConfigError: a flag is missing or wrong.
        """
        self.where = where
        self.here = where.flags()
        self.vertex = Vertex(where.checked(), report=lambda line: click.echo(line, err=True))
        self.bucket = Bucket(where.project)
        self.jobs = Jobs(self.vertex, where.pipeline)
        self.metadata = VertexMetadata(self.vertex, self.jobs, self.bucket)
        self.damaged: dict[str, str] = {}

    # What Vertex AI refuses is a job on record, and its database is its own.
    refusal: Rejection | None = None
    unreadable = ""

    @property
    def unread(self) -> list[str]:
        return self.bucket.unread

    @property
    def place(self) -> str:
        of_pipeline = f", pipeline {self.where.pipeline}" if self.where.pipeline else ""
        return f"{self.vertex.place.parent}{of_pipeline}"

    @property
    def record_ids(self) -> Iterator[str]:
        return self.jobs.ids()

    def listed(self, limit: int, skip: int = 0) -> Listed:
        """Return the newest jobs; the list does not say how far their tasks came, so each is read."""
        ids = list(islice(self.jobs.ids(), skip, skip + limit + 1))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            runs = list(pool.map(self.run, ids[:limit]))
        return Listed(runs, None if len(ids) > limit else skip + len(ids))

    def record(self, run_id: str) -> RunRecord | None:
        return self.jobs.record(run_id)

    def records(self) -> Iterator[RunRecord]:
        for run_id in self.jobs.ids():
            found = self.record(run_id)
            if found is not None:
                yield found

    def run(self, run_id: str) -> Run:
        record = self.record(run_id)
        return Run(run_id, state_of(self.jobs.get(run_id), record) if record else State.UNKNOWN, record)

    def find(self, name: str) -> Run:
        """Return the job that is meant; also one that was deleted, of which ML Metadata still knows."""
        run_id = self._latest if name == LATEST else name
        if run_id is not None and JOB_ID.fullmatch(run_id):
            found = self.run(run_id)
            if found.record is not None:
                return found
            meant = list(islice(self.jobs.ids(f'pipeline_job_user_id:"{name}*"'), _SHOWN + 1))
            if len(meant) == 1:
                return self.run(meant[0])
            if meant:
                raise ConfigError(f"{self.place}: '{name}' fits {', '.join(meant[:_SHOWN])} and is ambiguous")
            if self.metadata.has_run(run_id):
                return found
        newest = ", ".join(islice(self.jobs.ids(), _SHOWN)) or "none"
        raise ConfigError(f"{self.place}: has no run '{name}'; the newest are: {newest}")

    @cached_property
    def _latest(self) -> str | None:
        return next(self.jobs.ids(), None)

    def last_good(self, before: str) -> str | None:
        """Return the last job of the same pipeline that was created before another, and succeeded."""
        job = self.jobs.get(before)
        if job is None:
            return None
        earlier = f'create_time<"{job.create_time.rfc3339()}"'
        return next(
            self.jobs.ids(f'display_name="{job.display_name}"', 'state="PIPELINE_STATE_SUCCEEDED"', earlier), None
        )

    def log(self, record: RunRecord, node: str | None) -> tuple[str, list[str], str]:
        """Return the command that reads a task's log: lines of it are in Cloud Logging alone."""
        own = record.nodes[node].log if node is not None else None
        return own or record.log or "", [], "           the error above is all that Vertex AI keeps with the task"

    def artifact_id(self, text: str) -> str | None:
        return text if _ID.fullmatch(text) else None

    def releases(self, folder: Path | None, model: str | None) -> Releases:
        """Return the versions in the Model Registry, and what the endpoint gives them of the traffic."""
        from oncall.vertex.releases import registered

        return registered(self, folder, model)
