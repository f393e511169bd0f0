"""Runs the DoFn over the files that are left, on Beam, so that Ctrl-C ends it at once."""

import threading
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import psutil
from apache_beam.options import pipeline_options

from cli.errors import ConfigError
from serving.batch.job import Job
from serving.batch.predict_file import PredictFile
from serving.beam_options import check_beam_args

Element = tuple[int, Sequence[str]]
_WAIT_SECONDS = 0.2


def arguments(workers: int, given: Sequence[str], job: Job, output: str) -> list[str]:
    """Beam's options: this machine, unless what is given says otherwise.

    Raises:
      ConfigError: an option is unknown, or Dataflow could not see a path.
    """
    mode = "in_memory" if workers == 1 else "multi_processing"
    ours = [
        # By its name: DirectRunner would first try to download another runner.
        "--runner=FnApiRunner",
        f"--direct_running_mode={mode}",
        f"--direct_num_workers={workers}",
        # For authors of Beam code.
        "--no_pipeline_type_check",
    ]
    if "--runner=DataflowRunner" in given:
        for flag, path in (("INPUT", job.inputs[0].path), ("--model", job.model), ("OUTPUT", output)):
            if not path.startswith("gs://"):
                raise ConfigError(f"{flag}: Dataflow's workers cannot see {path}; give a gs:// path")
    check_beam_args([*ours, *given], called="--beam-option ")
    return [*ours, *given]


def run(elements: Sequence[Element], predict_file: PredictFile, arguments: Sequence[str]) -> None:
    """Call the DoFn for these elements.

    Raises:
      Exception: whatever Beam raises.
      KeyboardInterrupt: after Ctrl-C; the processes that were started are ended.
    """
    running = _Running(elements, predict_file, arguments)
    try:
        running.wait()
    except KeyboardInterrupt:
        running.end()
        raise


class _Running:
    """Beam in a thread of its own, so that the main one is free to be interrupted."""

    def __init__(self, elements: Sequence[Element], predict_file: PredictFile, arguments: Sequence[str]) -> None:
        self._elements = elements
        self._predict_file = predict_file
        self._arguments = arguments
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        while self._thread.is_alive():
            self._thread.join(_WAIT_SECONDS)
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Cancel a job elsewhere, and kill the worker processes here; parts are whole or not there."""
        if self._result is not None:
            self._result.cancel()
        for process in psutil.Process().children(recursive=True):
            process.kill()

    def _run(self) -> None:
        try:
            pipeline = beam.Pipeline(options=pipeline_options.PipelineOptions(list(self._arguments)))
            _ = (
                pipeline
                | "Files" >> beam.Create(list(self._elements))
                | "Spread" >> beam.Reshuffle()
                | "Predict" >> beam.ParDo(self._predict_file)
            )
            # On this machine this ends when all is done.
            self._result = pipeline.run()
            self._result.wait_until_finish()
        except BaseException as error:
            self._error = error
