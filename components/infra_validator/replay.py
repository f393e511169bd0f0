"""The replay of logged requests against a new model, by the settings of its config."""

import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cli.errors import NotBlessedError
from components.config import Evaluation, Replay
from components.model_files import open_local_folder
from serving.model.tensor_predictor import load_predictor
from serving.registry.settings import AnyRegistrySettings, open_registry
from serving.replay import decisions
from serving.request_log.shards import RequestLogError

_LOG = logging.getLogger(__name__)


class ReplayContext(BaseModel):
    """Values of other sections of the config that a replay needs.

    Attributes:
      registry: Settings of the registry, as JSON; its champion answered the requests.
      slice_by: Columns whose values are slices.
      min_slice_rows: Least number of rows of a slice that is judged.
      run_id: ID of the run: a log grows, so no result of another run is reused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    registry: str
    slice_by: tuple[tuple[str, ...], ...]
    min_slice_rows: int
    run_id: str

    @classmethod
    def build(cls, evaluation: Evaluation, registry: AnyRegistrySettings, run_id: str) -> "ReplayContext":
        """Return the context of a pipeline."""
        return cls(
            registry=registry.model_dump_json(),
            slice_by=evaluation.slice_by,
            min_slice_rows=evaluation.min_rows_per_slice,
            run_id=run_id,
        )


def replay_requests(folder: Path, settings: Replay, context: ReplayContext) -> decisions.ReplayResult:
    """Return the decisions of a model on logged requests.

    Args:
      folder: Folder of the model.
      settings: Settings of the replay.
      context: Registry and slices.

    Raises:
      NotBlessedError: Too many decisions differ from those of the serving version.
      RequestLogError: The log cannot be read, is of another model, or lacks a column.
      PushError: The registry cannot be read.
    """
    registry = open_registry(context.registry)
    champion = registry.read_serving().champion
    if champion is None:
        result = decisions.ReplayResult(None, reason="no version serves, whose answers could be compared")
    else:
        options = decisions.ReplayOptions(
            settings.rows,
            settings.min_rows,
            settings.tolerance,
            context.slice_by if settings.by_slice else (),
            context.min_slice_rows,
        )
        with open_local_folder(settings.log) as log:
            try:
                result = decisions.replay(log, registry.name, champion, load_predictor(folder), options)
            except RequestLogError as error:
                # A copy of a remote log has a temporary name.
                raise RequestLogError(str(error).replace(str(log), settings.log.rstrip("/"))) from error
    (_LOG.warning if result.reason else _LOG.info)("InfraValidator: %s", result.headline)
    excess = result.find_excess(settings.max_changed)
    if excess:
        raise NotBlessedError(f"infra validation: replay: {excess} (infra_validation.replay.max_changed)")
    return result
