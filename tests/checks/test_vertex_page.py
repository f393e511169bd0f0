"""docs/vertex.md is walked: its commands run, and print what the page shows."""

import re
import shutil
from pathlib import Path

import pytest

from checks import vertex_page
from checks.vertex_page import align, is_setup, mask, read_blocks, read_listings, read_setup
from tests.conftest import ROOT, shorten_census
from tests.forked_shell import open_shell

_COMMAND = re.compile(r"(\$ )?(source|export|python|env|docs/\S+|gcloud|docker|pkill|kill|make) ")


def test_each_command_of_the_page_is_walked_or_marked() -> None:
    text = vertex_page.PAGE.read_text()
    for block in read_blocks(text):
        lines = [line for _, line in block]
        if any(_COMMAND.match(line) for line in lines) and not is_setup(lines) and not lines[0].startswith("$ "):
            assert vertex_page.NOT_RUN in "\n".join(lines), lines[0]
    assert len(read_listings(text)) >= 20
    assert "source .venv/bin/activate; source runs/vertex/env.sh" in read_setup(text)


def test_a_listing_has_its_command_its_output_and_its_exit_code() -> None:
    text = "Text.\n\n    $ one --flag\n    printed\n    ...\n\n    $ two\n    error: no\n    [exit 5]\n\nMore text.\n\n    plain\n"
    first, second = read_listings(text)
    assert (first.line, first.command, first.lines, first.exit_code) == (2, "one --flag", ["printed", "..."], 0)
    assert (second.command, second.lines, second.exit_code) == ("two", ["error: no"], 5)


@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("monday 134b745d273e finished", "monday 002156003890 finished"),
        ("21:44:53  SUCCEEDED    13.4 s  Pusher", "09:01:00  SUCCEEDED   113.4 s  Pusher"),
        ("wrote runs/census.json: 13 tasks, 97,750 bytes", "wrote runs/census.json: 13 tasks, 8,750 bytes"),
        ("│ 1 │ 90 % │ 5590bbbf42bd │ 2026-11-24 21:45 │", "│ 1 │ 90 % │ 441f03a53466 │ 2027-01-02 03:04 │"),
        ("┏━━━━━━━┳━━━━┓", "┏━━━━━━━━━┳━━━━━━━┓"),
        ("push of version 1 by 0@vm", "push of version 1 by ada@laptop.local"),
    ],
)
def test_times_and_sizes_may_differ(page: str, printed: str) -> None:
    assert mask(page) == mask(printed)


@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("│ 1 │ 90 % │", "│ 1 │ 70 % │"),
        ("wrote 13 tasks, 97,750 bytes", "wrote 14 tasks, 97,750 bytes"),
        ("push of version 1", "push of version 2"),
    ],
)
def test_shares_and_counts_may_not_differ(page: str, printed: str) -> None:
    assert mask(page) != mask(printed)


def test_three_dots_stand_for_any_lines() -> None:
    printed = ["a 1.0 s", "b", "c", "d 2.0 s"]
    assert align(["a 9.0 s", "...", "d 9.0 s"], printed) == ["a 1.0 s", "...", "d 2.0 s"]
    assert align(["...", "b", "c", "d 1.5 s"], printed) == ["...", "b", "c", "d 2.0 s"]
    assert align(["a 9.0 s", "c"], printed) is None
    assert align(["a 9.0 s", "..."], printed) == ["a 1.0 s", "..."]


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_page_shows_what_its_commands_print() -> None:
    with open_shell() as line:
        problems = vertex_page.check_page(write=False, setup=[line], prepare=_use_few_rows)
    assert not problems, "\n".join(problems)


def _use_few_rows(folder: Path) -> None:
    for name in ("configs", "data"):
        (folder / name).unlink()
    shutil.copytree(ROOT / "configs", folder / "configs")
    shutil.copytree(ROOT / "data" / "census", folder / "data" / "census")
    shorten_census(folder)
