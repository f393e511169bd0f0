"""Runs the DoFn over unfinished files on Beam, so that Ctrl-C ends it at once."""

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


def build_arguments(workers: int, overrides: Sequence[str], job: Job, output: str) -> list[str]:
    """Return Beam's options: those for this machine, and the user's.

    Args:
      workers: number of processes.
      overrides: the user's options.
      job: the job.
      output: folder of the predictions.

    Raises:
      ConfigError: an option is unknown, or Dataflow could not see a path.
    """
    mode = "in_memory" if workers == 1 else "multi_processing"
    defaults = [
        # Not DirectRunner, which first tries to download another runner.
        "--runner=FnApiRunner",
        f"--direct_running_mode={mode}",
        f"--direct_num_workers={workers}",
        # Type checks help only authors of Beam code.
        "--no_pipeline_type_check",
    ]
    if "--runner=DataflowRunner" in overrides:
        for flag, path in (("INPUT", job.inputs[0].path), ("--model", job.model), ("OUTPUT", output)):
            if not path.startswith("gs://"):
                raise ConfigError(f"{flag}: Dataflow's workers cannot see {path}; give a gs:// path")
    check_beam_args([*defaults, *overrides], prefix="--beam-option ")
    return [*defaults, *overrides]


def run_pipeline(elements: Sequence[Element], predict_file: PredictFile, arguments: Sequence[str]) -> None:
    """Call the DoFn for these elements.

    Raises:
      Exception: an error of Beam or of the DoFn.
      KeyboardInterrupt: Ctrl-C; the worker processes are killed.
    """
    thread = _PipelineThread(elements, predict_file, arguments)
    try:
        thread.wait()
    except KeyboardInterrupt:
        thread.end()
        raise


class _PipelineThread:
    """Beam in a thread of its own, so that the main thread can be interrupted."""

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
        """Cancel a remote job, and kill the local worker processes; no part is incomplete."""
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
            # A local pipeline ends only when all is done.
            self._result = pipeline.run()
            self._result.wait_until_finish()
        except BaseException as error:
            self._error = error
