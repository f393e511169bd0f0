"""The comparison of the model server with other frameworks."""

import sys

import click
import pytest

from benchmarks.serving import find_missing


def test_a_peer_that_is_not_installed_is_named() -> None:
    assert find_missing(sys.executable, ("json", "no_such_module", "socket")) == "no_such_module"
    assert find_missing(sys.executable, ("json", "socket")) is None


def test_a_python_that_does_not_exist_is_one_line() -> None:
    with pytest.raises(click.ClickException, match="--peers-python /no/python: No such file or directory"):
        find_missing("/no/python", ("json",))
