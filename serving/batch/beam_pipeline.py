"""Runs the DoFn over unfinished files on Beam, so that Ctrl-C ends it at once."""

import threading
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import psutil
from apache_beam.options import pipeline_options

from serving.batch.job import Job
from serving.batch.predict_file import PredictFile
from serving.beam import servers
from serving.beam.arguments import build_arguments
from serving.beam.config import BeamOptions
from serving.beam.option_names import check_beam_args
from serving.beam.preflight import check_beam

Element = tuple[int, Sequence[str]]
_WAIT_SECONDS = 0.2
# Folder in that of the predictions, while a job runs.
WORKER_LOGS = "_worker_logs"


def prepare_arguments(options: BeamOptions, workers: int, job: Job, output: str) -> list[str]:
    """Return Beam's arguments, checked.

    Args:
      options: options of the job.
      workers: number of processes on this machine.
      job: the job.
      output: folder of the predictions.

    Raises:
      ConfigError: an option is unknown, an address does not answer, or workers could not see a path.
    """
    if options.runner in (None, "direct") and options.workers is None:
        mode = options.running_mode or ("in_memory" if workers == 1 else "multi_processing")
        options = options.model_copy(update={"workers": workers, "running_mode": mode})
    paths = {"INPUT": job.inputs[0].path, "--model": job.model, "OUTPUT": output}
    check_beam(options, paths, prefix="--beam ")
    arguments = build_arguments(options)
    check_beam_args(arguments, prefix="--beam-option ")
    if options.worker_pool is not None and "://" not in output:
        arguments.append(f"--worker_log_folder={output}/{WORKER_LOGS}")
    return arguments


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
    finally:
        servers.stop_all()


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
