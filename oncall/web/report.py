"""`report`: a run's page as one file, which needs nothing but a browser."""

import re
from pathlib import Path

from cli.errors import ConfigError, RunRootError
from cli.state_files import write_atomically
from oncall.evidence import Evidence
from oncall.terminal import Answer, volume
from oncall.web import pages, run, start
from oncall.web.start import Place

# A run that is not ours may have any name.
_NOT_IN_NAMES = re.compile(r"[^\w.-]", re.ASCII)


def report(evidence: Evidence, name: str, place: Place, *, output: Path | None, overwrite: bool) -> Answer:
    """Write a run's page to a file.

    Args:
      evidence: evidence of the run root.
      name: name of the run.
      place: place of the registry.
      output: the file; None for one in the run root, named after the run.
      overwrite: whether a file that is there already is replaced.

    Raises:
      ConfigError: there is no such run; or the file is there already.
      RunRootError: the file cannot be written.
    """
    view = run.view(evidence, name)
    file = output or evidence.root.path / "reports" / f"run-{_NOT_IN_NAMES.sub('_', view.run.run_id)}.html"
    if file.is_dir():
        raise ConfigError(f"{file}: is a folder; --output names a file")
    replaced = file.exists()
    if replaced and not overwrite:
        raise ConfigError(f"{file}: is there already; give --output another name, or replace it with --overwrite")
    page = pages.render(
        "run.html.j2",
        offline=True,
        root=evidence.root.path,
        view=view,
        checks=start.checked(evidence, place),
        served=start.served(evidence, place),
    )
    content = page.encode()
    _write(file, content, make_folder=output is None)
    document = {"report": str(file), "run": view.run.run_id, "bytes": len(content), "replaced": replaced}
    return Answer(document, [f"{file}: {'replaced, ' if replaced else ''}{volume(len(content))}"])


def _write(file: Path, content: bytes, *, make_folder: bool) -> None:
    """Write the whole file or none."""
    try:
        if make_folder:
            file.parent.mkdir(exist_ok=True)
        write_atomically(file, content)
    except OSError as error:
        raise RunRootError(f"{file}: cannot be written: {error.strerror}; name another with --output") from error
