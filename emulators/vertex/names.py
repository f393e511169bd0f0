"""Resource names: requests may name a project by its id or its number; responses always have the number.

A public transcript shows it for pipeline jobs, models and endpoints
(https://github.com/GoogleCloudPlatform/vertex-ai-samples: `projects/697047613721/locations/...`).
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from google.protobuf import struct_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_NAME = re.compile(r"projects/([^/]+)(/locations/.*)", re.DOTALL)
_VALUES = (struct_pb2.Struct.DESCRIPTOR.full_name, struct_pb2.Value.DESCRIPTOR.full_name)
# The name of another service's resource, and text that may have names in it.
_KEPT_FIELDS = ("kms_key_name", "filter")


class ProjectNumbers:
    """Numbers of projects by id."""

    def __init__(self, numbers: Mapping[str, str] | None = None) -> None:
        """Args:
        numbers: Numbers by id; a project without an entry has a number derived from its id.
        """
        self._numbers = dict(numbers or {})

    def find(self, project: str) -> str:
        """Return the number of a project that is named by its id or its number."""
        if project.isdecimal():
            return project
        digest = int.from_bytes(hashlib.sha256(project.encode()).digest()[:8], "big")
        return self._numbers.get(project, str(100_000_000_000 + digest % 900_000_000_000))

    def resolve(self, name: str) -> str:
        """Return a resource name with the number of its project; any other text as it is."""
        match = _NAME.fullmatch(name)
        return f"projects/{self.find(match[1])}{match[2]}" if match else name

    def resolve_fields(self, message: Any) -> None:
        """Resolve all resource names in a message."""
        for field, value in message.ListFields():
            if field.name in _KEPT_FIELDS or (field.message_type and field.message_type.full_name in _VALUES):
                continue
            if field.type == FieldDescriptor.TYPE_STRING:
                self._resolve_strings(message, field, value)
            elif field.type == FieldDescriptor.TYPE_MESSAGE:
                for inner in _list_messages(field, value):
                    self.resolve_fields(inner)

    def _resolve_strings(self, message: Any, field: FieldDescriptor, value: Any) -> None:
        if isinstance(value, str):
            setattr(message, field.name, self.resolve(value))
        else:
            value[:] = [self.resolve(text) for text in value]


def _list_messages(field: FieldDescriptor, value: Any) -> list[Message]:
    if isinstance(value, Message):
        return [value]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return [inner for inner in value.values() if isinstance(inner, Message)]
    return list(value)
