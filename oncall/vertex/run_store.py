"""The runs on Vertex AI: jobs of Vertex Pipelines."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path

import click

from cli.errors import ConfigError, RunRootError
from oncall.activity import ActiveRun
from oncall.run_store import LATEST, MAX_SUGGESTIONS, LogExcerpt, Run, RunList
from oncall.text_format import format_seconds
from oncall.vertex.bucket import Bucket
from oncall.vertex.jobs import Jobs, get_state
from oncall.vertex.location import VertexLocation
from oncall.vertex.metadata import VertexMetadata
from oncall.vertex.model_versions import VertexModelVersions, find_model_versions
from pipeline.run.records import RunRecord, RunState
from pipeline.run.rejections import Rejection
from pipeline.vertex.jobs import JOB_ID
from serving.registry.vertex.connection import VertexClient

_MAX_REQUESTS_AT_ONCE = 8
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,127}")


class VertexRunStore:
    """The jobs of a project and region; each is read when it is first needed."""

    def __init__(self, flags: VertexLocation) -> None:
        """Connect to Vertex AI.

        Raises:
          ConfigError: a flag is missing or wrong.
        """
        self.flags = flags
        self.location_flags = flags.format_flags()
        self.vertex = VertexClient(flags.validate(), report=lambda line: click.echo(line, err=True))
        self.bucket = Bucket(flags.project)
        self.jobs = Jobs(self.vertex, flags.pipeline)
        self.metadata = VertexMetadata(self.vertex, self.jobs, self.bucket)
        self.damaged_records: dict[str, str] = {}

    # On Vertex AI, a rejected run is a job on record, and the service keeps the database.
    last_rejection: Rejection | None = None
    # The run root of `pipeline retrain --vertex` is on another machine.
    retrain_error: RunRootError | None = None
    database_error: RunRootError | None = None
    binding_error = ""

    @property
    def read_errors(self) -> list[str]:
        """Why some files of the bucket could not be read."""
        return self.bucket.read_errors

    @property
    def location(self) -> str:
        """Project and region, and the pipeline if one is selected."""
        of_pipeline = f", pipeline {self.flags.pipeline}" if self.flags.pipeline else ""
        return f"{self.vertex.place.parent}{of_pipeline}"

    @property
    def record_ids(self) -> Iterator[str]:
        """IDs of the jobs, the newest first."""
        return self.jobs.list_ids()

    def list_runs(self, limit: int, skip: int = 0) -> RunList:
        """Return the newest jobs; each is read, because the list lacks the states of the tasks."""
        ids = list(islice(self.jobs.list_ids(), skip, skip + limit + 1))
        with ThreadPoolExecutor(_MAX_REQUESTS_AT_ONCE) as pool:
            runs = list(pool.map(self.get_run, ids[:limit]))
        return RunList(runs, None if len(ids) > limit else skip + len(ids))

    def read_record(self, run_id: str) -> RunRecord | None:
        """Return a job as a record; None if it does not exist."""
        return self.jobs.read_record(run_id)

    def read_records(self) -> Iterator[RunRecord]:
        """Yield the jobs as records, the newest first."""
        for run_id in self.jobs.list_ids():
            record = self.read_record(run_id)
            if record is not None:
                yield record

    def get_run(self, run_id: str) -> Run:
        """Return the job with exactly this ID."""
        record = self.read_record(run_id)
        return Run(run_id, get_state(self.jobs.get(run_id), record) if record else RunState.UNKNOWN, record)

    def describe_activity(self, record: RunRecord) -> ActiveRun:
        """Return the tasks that run; Vertex AI starts a task again, or fails it, if its machine is gone."""
        seconds = time.time() - record.started
        return ActiveRun(f"in {record.running_node or 'no task yet'}, started {format_seconds(seconds)} ago")

    def find_resumptions(self, run_id: str) -> list[str]:
        """Return no runs: a job on Vertex AI resumes no other."""
        del run_id
        return []

    def describe_newer_champion(self, record: RunRecord) -> str:
        """Return nothing: a job is not resumed."""
        del record
        return ""

    def find_run(self, name: str) -> Run:
        """Return the job with a name; also a deleted one that is still in ML Metadata."""
        run_id = self._latest if name == LATEST else name
        if run_id is not None and JOB_ID.fullmatch(run_id):
            run = self.get_run(run_id)
            if run.record is not None:
                return run
            matches = list(islice(self.jobs.list_ids(f'pipeline_job_user_id:"{name}*"'), MAX_SUGGESTIONS + 1))
            if len(matches) == 1:
                return self.get_run(matches[0])
            if matches:
                several = ", ".join(matches[:MAX_SUGGESTIONS])
                raise ConfigError(f"{self.location}: '{name}' is ambiguous: it matches {several}")
            if self.metadata.has_run(run_id):
                return run
        newest = ", ".join(islice(self.jobs.list_ids(), MAX_SUGGESTIONS)) or "none"
        raise ConfigError(f"{self.location}: has no run '{name}'; the newest are: {newest}")

    @cached_property
    def _latest(self) -> str | None:
        return next(self.jobs.list_ids(), None)

    def find_last_success(self, before: str | None) -> str | None:
        """Return the last job of the same pipeline that was created before another and succeeded."""
        job = self.jobs.get(before) if before is not None else None
        if job is None:
            return None
        filters = (
            f'display_name="{job.display_name}"',
            'state="PIPELINE_STATE_SUCCEEDED"',
            f'create_time<"{job.create_time.rfc3339()}"',
        )
        return next(self.jobs.list_ids(*filters), None)

    def read_log_excerpt(self, record: RunRecord, node: str | None) -> LogExcerpt:
        """Return the command that reads a task's log: only Cloud Logging has its lines."""
        own = record.nodes[node].log if node is not None else None
        problem = "           the error above is all that Vertex AI keeps with the task"
        return LogExcerpt(own or record.log or "", [], problem)

    def parse_artifact_id(self, text: str) -> str | None:
        """Return the text as an artifact's ID; None if it cannot be one."""
        return text if _ID.fullmatch(text) else None

    def find_model_versions(self, folder: Path | None, model: str | None) -> VertexModelVersions:
        """Return the versions in the Model Registry, with their shares of the endpoint's traffic."""
        return find_model_versions(self.vertex, self.jobs, self.metadata, self.flags, folder, model)
