"""The identity of the request that the current task answers, and the work that follows its answer."""

import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.request_log.entries import Entry
    from serving.server.shadow import ShadowJob

SPLIT_KEY_HEADER = "x-split-key"
MAX_REQUEST_ID_CHARS = 128


@dataclass(slots=True)
class RequestContext:
    """The request of a task.

    Attributes:
      request_id: ID of the request.
      split_key: Key of its header `x-split-key`; empty without one.
      split_version: Number of the version that the split chose; None if the request was not split.
      split_other: Number of the labelled version that the requests were shared with; empty if there was none.
      shadow_jobs: Calls of the shadow once the answer has gone out.
      entry: Its entry in the request log; None if it is not logged.
    """

    request_id: str
    split_key: str = ""
    split_version: int | None = None
    split_other: str = ""
    shadow_jobs: "list[ShadowJob]" = field(default_factory=list)
    entry: "Entry | None" = None


_CURRENT: ContextVar[RequestContext] = ContextVar("request")


def start_request(request_id: str, split_key: str) -> RequestContext:
    """Set the request of the current task, and return it.

    Args:
      request_id: ID that the client sent; a random one replaces an empty one.
      split_key: Key that the client sent; empty for none.
    """
    context = RequestContext(request_id[:MAX_REQUEST_ID_CHARS] or uuid.uuid4().hex, split_key)
    _CURRENT.set(context)
    return context


def get_current_request() -> RequestContext:
    """Return the request of the current task; one without a client, such as a test's, gets a random ID."""
    context = _CURRENT.get(None)
    return start_request("", "") if context is None else context
