"""Settings of the model server."""

from dataclasses import dataclass
from pathlib import Path

from serving.request_log.settings import RequestLogSettings
from serving.server.label_share import LabelShare


@dataclass(frozen=True)
class ServerSettings:
    """Settings of a model server.

    Attributes:
      model_dir: folder of versions, or of one.
      model_name: name in the paths. If omitted, the folder's name.
      policy: string that `VersionPolicy.parse` takes.
      allow_unvalidated: whether to serve models that no push wrote.
      poll_seconds: time between two reads of the folder.
      max_batch_rows: maximum number of rows in one call of the model, of several requests.
      max_waiting_rows: maximum number of rows that wait; further requests are rejected at once.
      max_request_rows: maximum number of rows of one request.
      max_request_bytes: maximum number of bytes of one request; Vertex AI sends no more than 1.5 MB.
      timeout_seconds: maximum time that rows wait for the model; then their request is rejected.
      drain_seconds: time to continue serving after SIGTERM, while the server reports that it is not ready.
      access_log: whether each request is logged.
      traces_endpoint: URL that traces are sent to by OTLP; None for no traces.
      oncall_url: address of `oncall web`, which the page links to; None for none.
      request_log: settings of the request log; None for no log.
      shadow: label that is asked after the answer, and share of the requests; None for no shadow.
      split: label that answers a share of the requests; None for no split.
      split_key: column whose value decides on the split; None for the header or the request's ID alone.
    """

    model_dir: str
    model_name: str | None = None
    policy: str = "champion"
    allow_unvalidated: bool = False
    poll_seconds: float = 1.0
    max_batch_rows: int = 512
    max_waiting_rows: int = 4096
    max_request_rows: int = 4096
    max_request_bytes: int = 1_500_000
    timeout_seconds: float = 5.0
    drain_seconds: float = 2.0
    access_log: bool = True
    traces_endpoint: str | None = None
    oncall_url: str | None = None
    request_log: RequestLogSettings | None = None
    shadow: LabelShare | None = None
    split: LabelShare | None = None
    split_key: str | None = None

    @property
    def experiment_labels(self) -> frozenset[str]:
        """Labels of versions that are loaded for the shadow or the split."""
        return frozenset(part.label for part in (self.shadow, self.split) if part is not None)


def is_version(folder: Path) -> bool:
    """Return whether a folder is one version, rather than the folder of all."""
    return (folder / "saved_model.pb").is_file()


def find_model_name(folder: Path) -> str:
    """Return the name of the model of a folder of versions, or of one version."""
    return folder.parent.name if is_version(folder) and folder.name.isdecimal() else folder.name
