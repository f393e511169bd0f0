"""The settings of serving on Vertex AI. Imports no Google client."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, field_validator, model_validator

from schemas.declaration import Declaration

# tf2-cpu.2-15 and its like (https://cloud.google.com/vertex-ai/docs/predictions/pre-built-containers), and TF Serving.
_NAMED_RELEASE = re.compile(r"(?:/tf2?-(?:cpu|gpu)\.(\d+)-(\d+)|tensorflow/serving:(\d+)\.(\d+))")
MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
# Of BigQuery, with its project.
TABLE = re.compile(r"[a-z][a-z0-9.:-]*[a-z0-9]\.\w+\.[\w-]+")
ENDPOINT_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


def _match_pattern(pattern: str, expected: str) -> AfterValidator:
    """Return a validator of strings that match a pattern; its error names what was expected."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


Project = Annotated[
    str, _match_pattern(r"[a-z][a-z0-9-]{4,28}[a-z0-9]|[0-9]+", "a project's id (such as my-project) or its number")
]
Region = Annotated[str, _match_pattern(r"[a-z]+-[a-z]+[0-9]+", "a region such as europe-west4")]
ApiEndpoint = Annotated[
    str,
    _match_pattern(
        r"(?!(localhost|127\.0\.0\.1)$)[A-Za-z0-9.-]+(:[0-9]+)?", "HOST:PORT without https://, such as localhost:8443"
    ),
]


class BatchPrediction(Declaration):
    """A batch prediction job that is started with every push."""

    source: str
    """A `gs://` pattern of JSON lines, one request a line."""
    destination: str
    """A `gs://` folder."""
    machine_type: str = "n1-standard-4"
    max_replicas: PositiveInt = 2
    batch_size: PositiveInt = 64


class VertexMonitoring(Declaration):
    """Model monitoring of the endpoint: requests against the training data (skew), and against earlier ones (drift)."""

    sampling_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    """The share of the requests that is logged and looked at."""
    interval_hours: PositiveInt = 24
    skew_threshold: Annotated[float, Field(gt=0, le=1)] | None = 0.3
    """Limit for every feature: of the Jensen-Shannon divergence for numbers, of L-infinity for categories."""
    drift_threshold: Annotated[float, Field(gt=0, le=1)] | None = 0.3
    emails: tuple[str, ...] = ()
    """Recipients of alerts."""


class VertexRequestLog(Declaration):
    """Request-response logging of the endpoint; `python -m serving.request_log import` reads the log."""

    table: Annotated[str, _match_pattern(TABLE.pattern, "PROJECT.DATASET.TABLE")]
    """The table of BigQuery, as `PROJECT.DATASET.TABLE`. The dataset must exist; Vertex AI creates the table."""
    sampling_rate: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The share of the requests that is logged. 0 turns the log off."""


class Deployment(Declaration):
    """How a model is served on Vertex AI."""

    serving_image: str
    """The container that serves. Its TensorFlow must not be older than the model's: Google's prebuilt ones stop at
    2.15, so it is mostly an own image (docs/vertex.md)."""
    serving_tensorflow: str | None = None
    """The release in the image, such as `2.21`, where the image's name has none."""
    endpoint: str | None = None
    """The display name of the endpoint, reused or created. If omitted, the model's name."""
    machine_type: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$")] = "n1-standard-2"
    accelerator: Annotated[str, Field(pattern=r"^[A-Z0-9_]+$")] | None = None
    """Such as `NVIDIA_TESLA_T4`."""
    accelerator_count: PositiveInt = 1
    min_replicas: PositiveInt = 1
    max_replicas: PositiveInt = 1
    traffic_steps: Annotated[tuple[int, ...], Field(min_length=1)] = (10, 50, 100)
    """The new version's share of the traffic in percent, step by step; after each, the golden requests are sent. An
    empty endpoint starts at 100. If the last step is below 100, the version stays a canary until
    `python -m serving.registry promote`."""
    keep_deployed: PositiveInt = 2
    """Number of versions that stay deployed: the serving one, and those for a rollback. Each costs its machines."""
    smoke_timeout_seconds: PositiveFloat = 300
    """Seconds for which the golden requests are repeated until the new version has answered them."""
    deadline_seconds: PositiveFloat = 3600
    """Limit on one step of a push, with all retries."""
    batch_prediction: BatchPrediction | None = None
    monitoring: VertexMonitoring | None = None
    request_log: VertexRequestLog | None = None
    """If omitted, a push leaves the endpoint's own setting. Otherwise it replaces another one, and prints both."""

    @field_validator("traffic_steps")
    @classmethod
    def _check_rising(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if list(steps) != sorted(set(steps)) or not all(1 <= step <= 100 for step in steps):
            raise ValueError("must rise, each from 1 to 100, such as [10, 50, 100]")
        return steps

    @model_validator(mode="after")
    def _check_consistent(self) -> "Deployment":
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas: {self.max_replicas} is below min_replicas: {self.min_replicas}")
        if self.image_tensorflow is None:
            raise ValueError(
                f"serving_tensorflow: give the TensorFlow release of {self.serving_image}, such as '2.21'; its name "
                "does not say it"
            )
        return self

    @property
    def image_tensorflow(self) -> tuple[int, int] | None:
        """(major, minor) of the TensorFlow in the image, as declared or from its name."""
        if self.serving_tensorflow is not None:
            match = re.fullmatch(r"(\d+)\.(\d+)(\..*)?", self.serving_tensorflow)
            return (int(match[1]), int(match[2])) if match else None
        named = _NAMED_RELEASE.search(self.serving_image)
        if named is None:
            return None
        major, minor = [part for part in named.groups() if part]
        return int(major), int(minor)


class VertexProject(Declaration):
    """Project, region, bucket and account on Vertex AI."""

    project: Project
    region: Region
    staging: str = ""
    """The `gs://` folder that pushed models are kept in."""
    api_endpoint: ApiEndpoint | None = None
    """Host and port of the API. If omitted, the region's own."""
    service_account: str | None = None
    cmek_key: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)

    @property
    def parent(self) -> str:
        """The resource name that all others start with."""
        return f"projects/{self.project}/locations/{self.region}"
