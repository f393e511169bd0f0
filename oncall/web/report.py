"""`report`: a run's page as one file, which needs nothing but a browser."""

import re
from pathlib import Path

from cli.errors import ConfigError, RunRootError
from cli.state_files import write_atomically
from oncall.local.run_store import LocalRunStore
from oncall.results import CommandResult
from oncall.text_format import format_bytes
from oncall.web import home_page, rendering
from oncall.web.options import PageOptions
from oncall.web.run_page import read_run_page

# A run of another tool may have any name.
_NOT_IN_NAMES = re.compile(r"[^\w.-]", re.ASCII)


def write_report(
    store: LocalRunStore, name: str, options: PageOptions, *, output: Path | None, overwrite: bool
) -> CommandResult:
    """Write a run's page to a file.

    Args:
      store: runs of the run root.
      name: name of the run.
      options: options of the command.
      output: path of the file; None for one in the run root, named after the run.
      overwrite: whether an existing file is replaced.

    Raises:
      ConfigError: there is no such run; or the file exists already.
      RunRootError: the file cannot be written.
    """
    view = read_run_page(store, name)
    file = output or store.root.path / "reports" / f"run-{_NOT_IN_NAMES.sub('_', view.run.run_id)}.html"
    if file.is_dir():
        raise ConfigError(f"{file}: is a folder; --output names a file")
    replaced = file.exists()
    if replaced and not overwrite:
        raise ConfigError(f"{file}: exists already; give --output another name, or replace it with --overwrite")
    page = rendering.render(
        "run.html.j2",
        offline=True,
        root=store.root.path,
        view=view,
        checks=home_page.read_checks(store, options),
        registry=home_page.read_registry(store, options),
    )
    content = page.encode()
    _write(file, content, make_folder=output is None)
    document = {"report": str(file), "run": view.run.run_id, "bytes": len(content), "replaced": replaced}
    return CommandResult(document, [f"{file}: {'replaced, ' if replaced else ''}{format_bytes(len(content))}"])


def _write(file: Path, content: bytes, *, make_folder: bool) -> None:
    try:
        if make_folder:
            file.parent.mkdir(exist_ok=True)
        write_atomically(file, content)
    except OSError as error:
        raise RunRootError(f"{file}: cannot be written: {error.strerror}; name another with --output") from error
