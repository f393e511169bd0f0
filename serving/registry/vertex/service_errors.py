"""Errors of Google's services in one line: the missing role, the exhausted quota, or TransientError.

Imports no client of a service, since the model server reads Cloud Storage without them.
"""

import re
from typing import Any

import grpc
from google.api_core import exceptions
from google.rpc import error_details_pb2

from cli.errors import PushError

NO_CREDENTIALS = (
    "no Google Cloud credentials were found; run `gcloud auth application-default login`, or set "
    "GOOGLE_APPLICATION_CREDENTIALS to a key file"
)
_TRANSIENT = (
    exceptions.ServiceUnavailable,
    exceptions.DeadlineExceeded,
    exceptions.GatewayTimeout,
    exceptions.InternalServerError,
    exceptions.TooManyRequests,
    exceptions.Aborted,
    exceptions.Unknown,
    exceptions.Cancelled,
)
# Deployments and jobs name a quota of machines in the message alone:
# https://github.com/GoogleCloudPlatform/vertex-ai-samples/issues/264, https://github.com/google-deepmind/xmanager/issues/29
_NAMED_QUOTA = re.compile(r"following quota(?:s are exceeded| metrics exceed quota limits): ([\w./-]+)")
# The role that gives the permissions of a service, by the permission's first words.
_ROLES = {
    "aiplatform.": "roles/aiplatform.user",
    "storage.": "roles/storage.objectAdmin",
    "iam.serviceAccounts.actAs": "roles/iam.serviceAccountUser",
    "cloudkms.": "roles/cloudkms.cryptoKeyEncrypterDecrypter",
    "artifactregistry.": "roles/artifactregistry.reader",
    "compute.": "roles/compute.networkUser",
    "dataflow.": "roles/dataflow.developer",
}
# Google's text names it, or does not.
_CALLER = "the account that calls: yours here, vertex.service_account within a job"


class TransientError(Exception):
    """An error that may go away: the step reads the state again and retries."""


def translate_error(error: exceptions.GoogleAPICallError) -> Exception:
    """Return a service's error as TransientError, or as one line that names the role or the quota that is missing."""
    details = list(getattr(error, "details", None) or ())
    text = " ".join(str(error.message).split())
    if isinstance(error, exceptions.Unauthenticated):
        return PushError(
            f"Vertex AI does not accept the credentials: {text}; run `gcloud auth application-default login`"
        )
    if isinstance(error, exceptions.Forbidden):
        return PushError(f"permission denied: {text}; {_find_missing_role(error, text)}")
    if isinstance(error, exceptions.TooManyRequests):
        quota = _find_quota(error, details, text)
        # A limit per minute passes by waiting; a limit on machines does not.
        if quota and "per_minute" not in quota.lower() and "perminute" not in quota.lower():
            return PushError(
                f"quota exhausted: {quota}: {text}; free some, or ask for more in the console (IAM > Quotas)"
            )
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return PushError(
            "the API's certificate is not trusted; for an emulator, source its env.sh, which names its CA in "
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
        )
    if isinstance(error, _TRANSIENT) or error.grpc_status_code in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ):
        return TransientError(f"{type(error).__name__}: {text}")
    return PushError(f"Vertex AI rejected the call: {text} ({type(error).__name__})")


def _find_missing_role(error: exceptions.GoogleAPICallError, text: str) -> str:
    permission = (getattr(error, "metadata", None) or {}).get("permission", "")
    for word in (permission, *text.replace("'", " ").replace('"', " ").split()):
        for start, role in _ROLES.items():
            if word.startswith(start):
                return f"grant {role} (it holds {word}) to {_CALLER}"
    return f"grant roles/aiplatform.user to {_CALLER}"


def _find_quota(error: exceptions.GoogleAPICallError, details: list[Any], text: str) -> str:
    for detail in details:
        if isinstance(detail, error_details_pb2.QuotaFailure) and detail.violations:
            return str(detail.violations[0].subject)
    metadata = getattr(error, "metadata", None) or {}
    named = _NAMED_QUOTA.search(text)
    return str(metadata.get("quota_metric") or metadata.get("quota_limit") or (named[1] if named else ""))
