"""Resource names of Vertex AI. Imports no Google client.

Responses have the project's number in all names, whatever the request had: names are never compared as text.
"""

import hashlib
import re

_NAME = re.compile(r"projects/([^/]+)/(.+)")
# https://cloud.google.com/python/docs/reference/aiplatform/latest: ids of contexts, executions and schemas.
_MAX_ID_CHARS = 128
_DIGEST_CHARS = 16


def is_same_resource(name: str, other: str) -> bool:
    """Return whether two names mean the same resource; one may have the project's id, and the other its number."""
    match, other_match = _NAME.fullmatch(name), _NAME.fullmatch(other)
    if match is None or other_match is None or match[2] != other_match[2]:
        return name == other
    project, other_project = match[1], other_match[1]
    return project == other_project or project.isdecimal() != other_project.isdecimal()


def find_project_number(name: str) -> str:
    """Return the number of the project in a name of a response.

    Raises:
      ValueError: the name has no number.
    """
    match = _NAME.fullmatch(name)
    if match is None or not match[1].isdecimal():
        raise ValueError(f"'{name}': expected a resource name such as projects/123456789/...")
    return match[1]


def build_metadata_id(prefix: str, *parts: str) -> str:
    """Return an id of ML Metadata: 4 to 128 of lowercase letters, digits and hyphens.

    Different parts never share an id: what the id cannot hold is hashed.
    """
    text = "-".join((prefix, *parts))
    slug = re.sub(r"[^a-z0-9-]", "-", text.lower())
    # A hyphen in a part could be the end of another.
    if slug == text and len(slug) <= _MAX_ID_CHARS and not any("-" in part for part in parts[:-1]):
        return slug
    digest = hashlib.sha256("\0".join((prefix, *parts)).encode()).hexdigest()[:_DIGEST_CHARS]
    return f"{slug[: _MAX_ID_CHARS - _DIGEST_CHARS - 1]}-{digest}"
