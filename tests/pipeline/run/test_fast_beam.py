"""Beam's answers are its own, and are found once."""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import VarIntCoder
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
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
