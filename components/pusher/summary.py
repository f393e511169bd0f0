"""Summary of Pusher."""

from dataclasses import dataclass

from cli.node_summary import NodeSummary, Outputs, get_only_artifact
from components.pusher.component import BYTES_PROPERTY, HASH_PROPERTY, NOTE_PROPERTY, VERSION_PROPERTY
from components.pusher.last_push import DESTINATION_PROPERTY, PUSHED_PROPERTY


@dataclass(frozen=True)
class PusherSummary(NodeSummary):
    """Result of a push.

    Attributes:
      pushed: Whether a version was written; if not, `version` has the same model.
      version: Number of the version.
      path: Its folder, or its resource name on Vertex AI.
      content_hash: Hash of its files.
      megabytes: Size of the model; 0 if it was pushed by an earlier release.
      note: Reason why it waits as the candidate, if it would undo a rollback.
    """

    pushed: bool
    version: int
    path: str
    content_hash: str
    megabytes: float = 0.0
    note: str = ""

    @classmethod
    def read(cls, outputs: Outputs) -> "PusherSummary":
        properties = get_only_artifact(outputs, "pushed_model").custom_properties
        return cls(
            pushed=bool(properties[PUSHED_PROPERTY].int_value),
            version=int(properties[VERSION_PROPERTY].string_value),
            path=properties[DESTINATION_PROPERTY].string_value,
            content_hash=properties[HASH_PROPERTY].string_value,
            megabytes=properties[BYTES_PROPERTY].int_value / 1e6 if BYTES_PROPERTY in properties else 0.0,
            note=properties[NOTE_PROPERTY].string_value if NOTE_PROPERTY in properties else "",
        )

    @property
    def headline(self) -> str:
        if not self.pushed:
            return f"version {self.version} holds this model already"
        return f"pushed version {self.version}" + (", as the candidate: it would undo a rollback" if self.note else "")
