"""Beam's answers are its own, and are found once."""

import concurrent
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import apache_beam as beam
import numpy as np
import objsize
import pytest
from apache_beam.coders import VarIntCoder
from apache_beam.internal.cloudpickle import cloudpickle
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners.worker import statecache
from apache_beam.transforms import userstate
from apache_beam.transforms.core import CallableWrapperDoFn
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from pipeline.run import dag_runner

_STATE = ReadModifyWriteStateSpec("count", VarIntCoder())
_COUNT = beam.DoFn.StateParam(_STATE)


class Stateful(beam.DoFn):  # type: ignore[misc]
    def process(self, element: int, count: Any = _COUNT) -> Iterator[int]:
        yield element


class Stateless(beam.DoFn):  # type: ignore[misc]
    def process(self, element: int) -> Iterator[int]:
        yield element


def test_states_are_those_that_beam_finds() -> None:
    assert dag_runner.fast_beam
    bound = CallableWrapperDoFn(Stateful().process)
    for dofn in (Stateful(), Stateless(), CallableWrapperDoFn(len), bound, CallableWrapperDoFn(Stateless().process)):
        assert userstate.get_dofn_specs(dofn) == userstate.get_dofn_specs.__wrapped__(dofn), dofn
    assert userstate.get_dofn_specs(Stateful()) == ({_STATE}, set())
    assert userstate.get_dofn_specs(Stateful()) is userstate.get_dofn_specs(Stateful())
    # Its method is an attribute of its own.
    assert userstate.get_dofn_specs(bound) == ({_STATE}, set())


def test_views_share_the_values_of_their_options() -> None:
    assert dag_runner.fast_beam
    options = PipelineOptions(["--direct_num_workers=3"])
    view = options.view_as(DirectOptions)
    assert (view.direct_num_workers, options.view_as(DirectOptions)) == (3, view)
    view.direct_num_workers = 5
    assert options.view_as(StandardOptions).view_as(DirectOptions).direct_num_workers == 5
    assert PipelineOptions([]).view_as(DirectOptions).direct_num_workers == 1


def test_submodules_are_those_of_the_modules_that_are_loaded_now(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dag_runner.fast_beam
    find = cloudpickle._find_imported_submodules

    def use() -> Any:
        return concurrent.futures.thread, beam.io, concurrent.added  # type: ignore[attr-defined]

    def modules() -> list[ModuleType]:
        dependencies = [concurrent, beam, sys, 3]
        submodules: list[ModuleType] = find(use.__code__, iter(dependencies))
        assert submodules == find.__wrapped__(use.__code__, dependencies)
        return submodules

    before = modules()
    assert {"concurrent.futures", "concurrent.futures.thread", "apache_beam.io"} <= {m.__name__ for m in before}
    added = ModuleType("concurrent.added")
    monkeypatch.setitem(sys.modules, "concurrent.added", added)
    assert {*modules()} - {*before} == {added}


def test_cached_values_have_the_sizes_that_beam_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dag_runner.fast_beam
    values = [
        "text",
        [b"x" * 1000, (1, 2)],
        {"model": np.zeros(1000)},
        Stateful(),
        [beam, len, Stateful, userstate],
        [{}],
    ]
    sizes = [statecache.get_deep_size(value) for value in values]
    assert not objsize.default_settings.exclude_modules_globals
    monkeypatch.setattr(objsize.default_settings, "exclude_modules_globals", True)
    assert sizes == [statecache.get_deep_size(value) for value in values]
