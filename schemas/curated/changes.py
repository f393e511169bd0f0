"""Changes of a curated schema: what they are, and how they get into the file without losing its comments.

Imports no TensorFlow.
"""

import difflib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from google.protobuf import text_format
from google.protobuf.message import Message
from tensorflow_metadata.proto.v0 import schema_pb2

from schemas.sensitive import MASK

# A category, or a bound of numbers, in a line of a change.
_VALUE = re.compile(r"(?<=^[+-] )(value|min|max): .*")
# A string, a comment, or a brace: what matters for finding where a block ends.
_TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|#[^\n]*|[{}<>]')


@dataclass(frozen=True)
class Change:
    """Difference in one feature or domain: lines of the text format, each after `+` or `-`."""

    kind: str
    name: str
    lines: list[str]

    def __str__(self) -> str:
        return "\n".join([f"{self.kind} {self.name}", *(f"  {line}" for line in self.lines)])


def find_changes(before: schema_pb2.Schema, after: schema_pb2.Schema, sensitive: Collection[str] = ()) -> list[Change]:
    """Return what differs between two schemas, by feature and domain; values of `sensitive` features are masked."""
    domains = {feature.domain for feature in (*before.feature, *after.feature) if feature.name in sensitive}
    masked = {*(("feature", name) for name in sensitive), *(("string_domain", name) for name in domains)}
    old, new = _collect_blocks(before), _collect_blocks(after)
    differences = []
    for key in dict.fromkeys([*old, *new]):
        sides = [text_format.MessageToString(side[key]).splitlines() if key in side else [] for side in (old, new)]
        lines = [" ".join(line.split()) for line in difflib.ndiff(*sides) if line[0] in "+-"]
        if key in masked:
            lines = [_VALUE.sub(rf"\1: {MASK}", line) for line in lines]
        if lines:
            differences.append(Change(*key, lines))
    return differences


def rewrite(text: str, after: schema_pb2.Schema) -> str:
    """Return a schema file's text with the features and domains of `after`; only what differs is written again.

    Comments inside a changed feature or domain are lost, all others stay.
    """
    blocks = _collect_blocks(after)
    parts: list[str] = []
    end = 0
    for start, stop in _find_blocks(text):
        parsed = text_format.Parse(text[start:stop], schema_pb2.Schema())
        ((key, block),) = _collect_blocks(parsed).items()
        replacement = blocks.pop(key, None)
        parts.append(text[end:start])
        if replacement is not None:
            parts.append(text[start:stop] if replacement == block else _as_text(key[0], replacement))
        end = stop
    parts.append(text[end:])
    added = [_as_text(kind, block) for (kind, _), block in blocks.items()]
    return "".join(parts).rstrip("\n") + "\n" + "".join(f"{block}\n" for block in added)


def _collect_blocks(schema: schema_pb2.Schema) -> dict[tuple[str, str], Message]:
    features = {("feature", feature.name): feature for feature in schema.feature}
    return {**features, **{("string_domain", domain.name): domain for domain in schema.string_domain}}


def _as_text(kind: str, block: Message) -> str:
    inner = text_format.MessageToString(block, indent=2)
    return f"{kind} {{\n{inner}}}"


def _find_blocks(text: str) -> Iterator[tuple[int, int]]:
    """Return where each feature and domain of a schema in text format starts and ends."""
    depth, start = 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in "{<":
            if not depth:
                start = text.rfind("\n", 0, token.start()) + 1
            depth += 1
        elif token[0] in "}>":
            depth -= 1
            if not depth and re.match(r"\s*(feature|string_domain)\b", text[start:]):
                yield start, token.end()
