"""The config of TF Serving: which version it serves under which name.

    tensorflow_model_server --model_config_file=REGISTRY/NAME/tf_serving.config --model_config_file_poll_wait_seconds=10

The champion is served as NAME, a candidate as NAME-candidate, so that it can be tried before its promotion. One name
with all versions and a label for each is not possible, by two rules of TF Serving
(tensorflow_serving/model_servers/server_core.cc). It answers a request without a version with the highest version that
is loaded, which is the wrong one after a rollback. And it rejects a config that moves a label to a version that is not
loaded yet, so that the version would never be loaded.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

_HEADER = "# Written again with every change; --model_config_file_poll_wait_seconds lets TF Serving follow it.\n"
_ENTRY = """\
  config {{
    name: "{name}"
    base_path: "{base_path}"
    model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: {version} }} }}
  }}
"""


def format_config(folder: Path, *, champion: int | None, candidate: int | None) -> str:
    """Return a ModelServerConfig as text: of the versions in REGISTRY/NAME, those to be loaded."""
    versions: Mapping[str, int | None] = {folder.name: champion, f"{folder.name}-candidate": candidate}
    # TF Serving takes no relative paths.
    base_path = _escape(os.path.abspath(folder))
    entries = [
        _ENTRY.format(name=_escape(name), base_path=base_path, version=version)
        for name, version in versions.items()
        if version is not None
    ]
    return f"{_HEADER}model_config_list {{\n{''.join(entries)}}}\n"


def find_champion(config: str, folder: Path) -> int | None:
    """Return the version of REGISTRY/NAME that a config lets TF Serving serve as NAME; None if it names none."""
    entry = rf'name: "{re.escape(_escape(folder.name))}"[^}}]*versions: ([0-9]{{1,18}}) '
    match = re.search(entry, config)
    return int(match.group(1)) if match else None


def _escape(text: str) -> str:
    """Return a string in protobuf's text format, in which other bytes than plain characters are octal numbers."""
    plain = set(range(32, 127)) - set(b'"\\')
    return "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in os.fsencode(text))
