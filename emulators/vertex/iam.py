"""Permissions, checked against a table: roles of accounts, and accounts that they may act as. Off without a table.

Sources of the rules:
- UploadModelRequest.service_account: "the user-provided custom service account to use to do the uploading"; the account
  reads the image, which takes roles/artifactregistry.reader.
- DeployedModel.service_account: "Users deploying the Model must have the `iam.serviceAccounts.actAs` permission on this
  service account"; so for PipelineJob.service_account and CustomJobSpec.service_account.
- https://cloud.google.com/vertex-ai/docs/general/custom-service-account: a custom account of a container replaces the
  default one, and needs roles/storage.objectViewer for AIP_STORAGE_URI.
- https://cloud.google.com/vertex-ai/docs/general/access-control: roles/aiplatform.viewer reads, roles/aiplatform.user
  and roles/aiplatform.admin use all resources.
- https://google.aip.dev/193: the reason of the ErrorInfo.

The bearer token of a call is the e-mail address of its account: a rule of this emulator alone, since a local client has
no token of Google's. That a missing role of an account is found when the request arrives, and not when the container
starts, is a guess. So is that viewers may not predict.
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from emulators.vertex.errors import StatusError

_USER_ROLES = {"roles/aiplatform.user", "roles/aiplatform.admin"}
_VIEWER_ROLES = {"roles/aiplatform.viewer", *_USER_ROLES}
_READS = ("Get", "List", "Query")
_IMAGE_ROLES = {"roles/artifactregistry.reader", "roles/artifactregistry.writer"}
_FILE_ROLES = {"roles/storage.objectViewer", "roles/storage.objectAdmin"}


class _Call(threading.local):
    """The call that a thread handles."""

    account: str = ""


@dataclass(frozen=True)
class IamTable:
    """Roles and accounts.

    Attributes:
      caller: Account of calls without a token; "" rejects them.
      roles: Roles by account.
      act_as: Accounts by the account that may act as them.
    """

    caller: str
    roles: Mapping[str, frozenset[str]]
    act_as: Mapping[str, frozenset[str]] = field(default_factory=dict)
    _call: _Call = field(default_factory=_Call, compare=False)

    def begin_call(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Take the account of a call from its metadata.

        Raises:
          StatusError: UNAUTHENTICATED, https://cloud.google.com/apis/design/errors: "invalid OAuth credentials".
        """
        header = next((str(value) for key, value in metadata if key == "authorization"), "")
        account = header.removeprefix("Bearer ").strip() or self.caller
        if not account:
            raise StatusError("UNAUTHENTICATED", "Request is missing required authentication credential.")
        self._call.account = account

    @property
    def account(self) -> str:
        """Account of the call that this thread handles."""
        return self._call.account or self.caller

    def check_caller(self, method: str) -> None:
        """Check that the caller may call a method."""
        needed = _VIEWER_ROLES if method.startswith(_READS) else _USER_ROLES
        if not needed & self.roles.get(self.account, frozenset()):
            raise _build_error(f"aiplatform.{method}", "the project", self.account)

    def check_acting(self, account: str) -> None:
        """Check that the caller may act as an account; even an account needs it on itself."""
        if account and account not in self.act_as.get(self.account, ()):
            raise _build_error("iam.serviceAccounts.actAs", account, self.account)

    def check_image(self, account: str) -> None:
        """Check that the account of an upload may read the image."""
        if account and not _IMAGE_ROLES & self.roles.get(account, frozenset()):
            raise _build_error("artifactregistry.repositories.downloadArtifacts", "the image", account)

    def check_files(self, account: str) -> None:
        """Check that the account of a deployment may read the model's files."""
        if account and not _FILE_ROLES & self.roles.get(account, frozenset()):
            raise _build_error("storage.objects.get", "the bucket", account)


def _build_error(permission: str, resource: str, account: str) -> StatusError:
    return StatusError(
        "PERMISSION_DENIED",
        f"Permission '{permission}' denied on {resource} for {account}.",
        reason="IAM_PERMISSION_DENIED",
        metadata={"permission": permission},
    )


def parse_table(values: Mapping[str, object]) -> IamTable:
    """Return the table of a JSON document with `caller`, `roles` and `act_as`.

    Raises:
      ValueError: a key is unknown or has another form.
    """
    unknown = set(values) - {"caller", "roles", "act_as"}
    if unknown or not isinstance(values.get("caller", ""), str):
        raise ValueError(f"expected caller, roles and act_as, found {', '.join(values) or 'nothing'}")
    return IamTable(str(values.get("caller", "")), _read_lists(values.get("roles")), _read_lists(values.get("act_as")))


def _read_lists(value: object) -> dict[str, frozenset[str]]:
    if not isinstance(value, dict) or not all(isinstance(entries, list) for entries in value.values()):
        raise ValueError("roles and act_as: expected lists by account, each the account's e-mail address")
    for account in [*value, *(entry for entries in value.values() for entry in entries)]:
        if str(account).startswith(("user:", "serviceAccount:")):
            raise ValueError(f"{account}: expected the e-mail address alone")
    return {str(account): frozenset(map(str, entries)) for account, entries in value.items()}
