"""Permissions, checked against a table: roles of members, and accounts that they may act as. Off without a table.

Sources of the rules:
- UploadModelRequest.service_account: "the user-provided custom service account to use to do the uploading"; the account
  reads the image, which takes roles/artifactregistry.reader.
- DeployedModel.service_account: "Users deploying the Model must have the `iam.serviceAccounts.actAs` permission on this
  service account"; so for PipelineJob.service_account and CustomJobSpec.service_account.
- https://cloud.google.com/vertex-ai/docs/general/custom-service-account: a custom account of a container replaces the
  default one, and needs roles/storage.objectViewer for AIP_STORAGE_URI.

That a missing role of the account is found when the request arrives, and not when the container starts, is a guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from emulators.vertex.errors import StatusError

USER = "roles/aiplatform.user"
_IMAGE_ROLES = {"roles/artifactregistry.reader", "roles/artifactregistry.writer"}
_FILE_ROLES = {"roles/storage.objectViewer", "roles/storage.objectAdmin"}


@dataclass(frozen=True)
class IamTable:
    """Roles and accounts.

    Attributes:
      caller: Member that all requests are of: clients of an emulator send no credentials.
      roles: Roles by member.
      act_as: Accounts by member that may act as them.
    """

    caller: str
    roles: Mapping[str, frozenset[str]]
    act_as: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def check_caller(self, method: str) -> None:
        """Check that the caller may use Vertex AI at all."""
        if USER not in self.roles.get(self.caller, ()):
            raise _build_error(f"aiplatform.{method}", "the project", self.caller)

    def check_acting(self, account: str) -> None:
        """Check that the caller may act as an account; even an account needs it on itself."""
        if account and account not in self.act_as.get(self.caller, ()):
            raise _build_error("iam.serviceAccounts.actAs", account, self.caller)

    def check_image(self, account: str) -> None:
        """Check that the account of an upload may read the image."""
        if account and not _IMAGE_ROLES & self.roles.get(account, frozenset()):
            raise _build_error("artifactregistry.repositories.downloadArtifacts", "the image", account)

    def check_files(self, account: str) -> None:
        """Check that the account of a deployment may read the model's files."""
        if account and not _FILE_ROLES & self.roles.get(account, frozenset()):
            raise _build_error("storage.objects.get", "the bucket", account)


def _build_error(permission: str, resource: str, member: str) -> StatusError:
    return StatusError(
        "PERMISSION_DENIED",
        f"Permission '{permission}' denied on {resource} for {member}.",
        reason="IAM_PERMISSION_DENIED",
        metadata={"permission": permission},
    )


def parse_table(values: Mapping[str, object]) -> IamTable:
    """Return the table of a JSON document with `caller`, `roles` and `act_as`.

    Raises:
      ValueError: a key is missing, unknown or has another form.
    """
    unknown = set(values) - {"caller", "roles", "act_as"}
    if unknown or not isinstance(values.get("caller"), str):
        raise ValueError(f"expected caller, roles and act_as, found {', '.join(values) or 'nothing'}")
    return IamTable(str(values["caller"]), _read_lists(values.get("roles")), _read_lists(values.get("act_as")))


def _read_lists(value: object) -> dict[str, frozenset[str]]:
    if not isinstance(value, dict) or not all(isinstance(entries, list) for entries in value.values()):
        raise ValueError("roles and act_as: expected lists by member")
    return {str(member): frozenset(map(str, entries)) for member, entries in value.items()}
