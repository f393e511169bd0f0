"""Option of Beam that names the folder where the workers of a pool write their logs."""

from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions


class WorkerLogOptions(PipelineOptions):
    """Options of the workers of `python -m pipeline beam-worker`."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        parser.add_argument("--worker_log_folder", default=None, help="Folder that workers and launcher share.")
