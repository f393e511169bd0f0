"""Entry point of a task's container on Vertex Pipelines: TFX's own, with its output file in the bucket.

    python -m components.task_entry --executor_class_path CLASS --json_serialized_invocation_args {{$}}

Vertex names the output file below `/gcs`, where it mounts the buckets. Whether a user other than root may write there
is not documented. The same file is written through `gs://` here, which needs the permission on the bucket alone: the
image's user does not matter.
"""

import json
import os
from collections.abc import Sequence

from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

_INVOCATION = "--json_serialized_invocation_args"
# A rehearsal has folders of its own for both.
_MOUNT, _BUCKETS = ("REHEARSED_GCS_MOUNT", "/gcs/"), ("REHEARSED_GCS_BUCKETS", "gs://")


def use_bucket(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a task with its output file at a URI of the bucket instead of on the mount."""
    mount, buckets = os.environ.get(*_MOUNT), os.environ.get(*_BUCKETS)
    changed = list(arguments)
    if _INVOCATION in changed[:-1]:
        place = changed.index(_INVOCATION) + 1
        request = json.loads(changed[place])
        file = request.get("outputs", {}).get("outputFile", "")
        if file.startswith(mount):
            request["outputs"]["outputFile"] = f"{buckets}{file.removeprefix(mount)}"
            changed[place] = json.dumps(request)
    return changed


def _parse_flags(arguments: list[str]) -> object:
    return kubeflow_v2_run_executor._parse_flags(use_bucket(arguments))


if __name__ == "__main__":
    kubeflow_v2_run_executor.app.run(kubeflow_v2_run_executor.main, flags_parser=_parse_flags)
