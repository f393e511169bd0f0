"""The reference of all commands."""

import click
import pytest

from checks import commands
from pipeline.__main__ import main as pipeline_main
from tests.conftest import ROOT


def test_the_page_has_the_help_of_every_command() -> None:
    assert (ROOT / "docs" / "commands.md").read_text() == commands.render_page(), (
        "python -m checks.commands > docs/commands.md"
    )


def test_a_command_that_was_called_without_its_group_has_the_same_section() -> None:
    page = commands.render_page()
    with click.Context(pipeline_main) as context:
        command = pipeline_main.get_command(context, "stats")
    assert command is not None
    # click keeps the help option of the first call.
    command._help_option = None
    command.get_help(click.Context(command))
    assert commands.render_page() == page


def test_a_changed_help_text_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    main = click.Command("main", help="Do something new.")
    before = commands.render_page()
    monkeypatch.setattr("local_runner.main", main)
    assert "Do something new." not in before
    assert "Do something new." in commands.render_page()
