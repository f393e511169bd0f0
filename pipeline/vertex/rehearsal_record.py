"""A rehearsal with a record, as a local run has one: who runs it, how far it came, why it ended.

    FOLDER/records/JOB_ID.json    pipeline/run/records.py
           logs/JOB_ID/TASK.log
           .lock                  held for as long as the rehearsal lasts

A rehearsal leaves nothing in ML Metadata; what its tasks made is in FOLDER/records.json.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.errors import PushError
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.run.records import EVALUATION, Kind, PushResult, RecordFile, create_record
from pipeline.run.run_root import RunRoot
from pipeline.vertex import jobs
from pipeline.vertex.rehearsal import CACHED, CANCELLED, FAILED, SUCCEEDED, Rehearsal, TaskResult
from serving.registry.vertex.config import VertexRequestLog
from serving.registry.vertex.registry import VERTEX_PROPERTY
from serving.registry.vertex.request_log import convert_config

# The property's name in components/evaluator/component.py, which imports TensorFlow.
_CHALLENGERS = "challengers"
_STATES = {SUCCEEDED: "complete", CACHED: "cached", FAILED: "failed", CANCELLED: "failed"}


class Recorded:
    """One rehearsal; the caller holds the folder's lock."""

    def __init__(
        self,
        config: PipelineConfig,
        job: Mapping[str, Any],
        folder: Path,
        *,
        storage: Path,
        environment: Mapping[str, str],
        run_as: int | None = None,
        started: Callable[[str], None],
        finished: Callable[[jobs.Task], None],
    ) -> None:
        """Prepare the rehearsal and its record.

        Args:
          config: config that the job was compiled from.
          job: compiled job.
          folder: folder of state and logs.
          storage: folder that stands for Cloud Storage.
          environment: environment variables of the tasks.
          run_as: ID of the image's user, as in Rehearsal.
          started: callback at the start of a task, with its name.
          finished: callback at the end of a task.
        """
        self._report_start, self._report_end = started, finished
        self.job_id = jobs.generate_job_id(config.name)
        self._rehearsal = Rehearsal(
            job,
            folder,
            job_id=self.job_id,
            storage=storage,
            environment=environment,
            run_as=run_as,
            started=self._record_start,
            finished=self._record_end,
        )
        expected = list(self._rehearsal.sort_tasks())
        record = create_record(config, self.job_id, log=None, expected=expected, resumes=None, kind=Kind.REHEARSAL)
        self._file = RecordFile(RunRoot(folder), record)

    def run(self) -> dict[str, TaskResult]:
        """Run all tasks. Any end is recorded."""
        try:
            results = self._rehearsal.run()
        except KeyboardInterrupt as interrupt:
            self._rehearsal.cancel()
            self._end(jobs.CANCELLED_EXIT_CODE, "interrupted", reason=str(interrupt) or "SIGINT")
            raise
        except Exception as error:
            self._end(getattr(error, "exit_code", 1), f"{type(error).__name__}: {error}")
            raise
        failed = [result.error for result in results.values() if result.state == FAILED]
        summary, push = {}, PushResult()
        for artifact in _list_outputs(results, "Evaluator", "evaluation"):
            summary[EVALUATION] = artifact["uri"]
        for artifact in _list_outputs(results, "Pusher", "pushed_model"):
            push = jobs.read_push(artifact["metadata"]) or push
        self._end(self.build_status(results).exit_code, next(iter(failed), ""), summary=summary, push=push)
        return results

    def _end(self, code: int, error: str, *, reason: str = "", **fields: Any) -> None:
        self._file.end(exit_code=code, error=error, reason=reason, **{"summary": {}, **fields})

    def build_status(self, results: Mapping[str, TaskResult]) -> jobs.Status:
        """Return the rehearsal's status in the form of a job's."""
        return jobs.Status(
            name=self.job_id,
            state=FAILED if any(result.state == FAILED for result in results.values()) else SUCCEEDED,
            link="",
            error="",
            tasks=tuple(_convert_task(result) for result in results.values()),
        )

    def describe_challengers(self, results: Mapping[str, TaskResult]) -> list[str]:
        """Return Evaluator's comparisons with the challengers, a line each."""
        return [
            f"{name}: {entry['text']}"
            for artifact in _list_outputs(results, "Evaluator", "evaluation")
            for name, entry in json.loads(artifact["metadata"].get(_CHALLENGERS, "{}")).items()
        ]

    def describe_request_log(self, results: Mapping[str, TaskResult], config: VertexRequestLog | None) -> list[str]:
        """Return the setting of the endpoint's request log that the push left, as a line; none without a config.

        Raises:
          PushError: The endpoint has another setting than the config.
        """
        if config is None:
            return []
        expected = str(convert_config(config) or "")
        lines = []
        for artifact in _list_outputs(results, "Pusher", "pushed_model"):
            setting = json.loads(artifact["metadata"].get(VERTEX_PROPERTY, "{}")).get("request_log", "")
            if setting != expected:
                raise PushError(f"push.vertex.request_log: expected {expected or 'off'}, found {setting or 'off'}")
            lines.append(f"request log of the endpoint: {setting or 'off'}")
        return lines

    def _record_start(self, task: str) -> None:
        self._file.on_node_start(task, self._rehearsal.locate_log(task))
        self._report_start(task)

    def _record_end(self, result: TaskResult) -> None:
        # What was never started was not reached.
        if result.task in self._file.record.nodes:
            state = _STATES.get(result.state, result.state.lower())
            self._file.on_node_end(result.task, state, result.error)
        self._report_end(_convert_task(result))


def _list_outputs(results: Mapping[str, TaskResult], task: str, key: str) -> Sequence[Mapping[str, Any]]:
    return results[task].outputs.get(key, []) if task in results else []


def _convert_task(result: TaskResult) -> jobs.Task:
    return jobs.Task(result.task, result.state, result.seconds, result.error)
