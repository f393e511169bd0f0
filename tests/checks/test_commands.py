"""The reference of all commands."""

import click
import pytest

from checks import commands
from tests.conftest import ROOT


def test_the_page_has_the_help_of_every_command() -> None:
    assert (ROOT / "docs" / "commands.md").read_text() == commands.render_page(), (
        "python -m checks.commands > docs/commands.md"
    )


def test_a_changed_help_text_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    main = click.Command("main", help="Do something new.")
    before = commands.render_page()
    monkeypatch.setattr("local_runner.main", main)
    assert "Do something new." not in before
    assert "Do something new." in commands.render_page()
