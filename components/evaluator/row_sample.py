"""Merges samples of rows on Beam."""

from collections.abc import Iterable

import apache_beam as beam

from schemas.row_sample import RowSample


class MergeSamples(beam.CombineFn):
    """Merges the samples of batches."""

    def create_accumulator(self) -> RowSample:
        return RowSample()

    def add_input(self, accumulator: RowSample, element: RowSample) -> RowSample:
        return accumulator.merge(element)

    def merge_accumulators(self, accumulators: Iterable[RowSample]) -> RowSample:
        merged = RowSample()
        for accumulator in accumulators:
            merged = merged.merge(accumulator)
        return merged

    def extract_output(self, accumulator: RowSample) -> RowSample:
        return accumulator.sort_rows()
