"""Predicts the rows of one input file after the other, and writes the outcome of each."""

import json
from collections import Counter
from collections.abc import Collection, Iterator

import apache_beam as beam

from cli.errors import PipelineError
from schemas.tables.typed_columns import Batch, Table, build_bad_rows_error, summarize_bad_rows
from schemas.tables.values import find_out_of_range
from serving.batch import model_loader
from serving.batch.input_files import FLAGS, open_input
from serving.batch.job import Job, JobState, Outcome
from serving.batch.prediction_tables import predict_block, serialize, split_into_blocks
from serving.batch.storage import OutputFolder


class PredictFile(beam.DoFn):
    """Writes the predictions for an input file in parts, except existing ones."""

    def __init__(self, job: Job, folder: str, output: str, max_bad_rows: int) -> None:
        """Args:
        job: the job.
        folder: folder of the model's version on the machine that started the job.
        output: folder of the predictions.
        max_bad_rows: maximum number of bad rows of a file.
        """
        self._job = job.model_dump_json()
        self._folder = folder
        self._output = output
        self._max_bad_rows = max_bad_rows

    def process(self, element: tuple[int, Collection[str]]) -> Iterator[None]:
        """Take the index of a file among the job's inputs, and its existing parts; yield nothing."""
        index, existing_parts = element
        state = JobState(OutputFolder(self._output))
        job = Job.model_validate_json(self._job)
        try:
            self._predict(index, existing_parts, job, state)
        except PipelineError as error:
            # Written to a file instead of raised: Beam would hide the message in a stack trace.
            path = job.inputs[index].path
            state.finish(index, Outcome(path=path, error=str(error), exit_code=error.exit_code))
        yield from ()

    def _predict(self, index: int, existing_parts: Collection[str], job: Job, state: JobState) -> None:
        """Predict a file; write no outcome if another file was rejected meanwhile, so that the next run continues."""
        folder = model_loader.find_local_folder(job.model, self._folder)
        predictor = model_loader.load_predictor(folder, allow_unvalidated=job.allow_unvalidated)
        features = model_loader.read_features(folder)
        path = job.inputs[index].path
        table = open_input(path, job, features, self._max_bad_rows)
        rows = parts = reused = 0
        out_of_range_counts: Counter[str] = Counter()
        for block in split_into_blocks(self._read_good_batches(table, out_of_range_counts), job.rows_per_part):
            if state.is_stopped():
                return
            name = job.format_part_name(index, parts)
            if name in existing_parts:
                reused += 1
            else:
                predictions = predict_block(block, path, job.keys, predictor, features)
                state.folder.write(name, serialize(predictions, job.output_format))
            rows += block.num_rows
            parts += 1
        outcome = Outcome(
            path=path,
            rows=rows,
            rejected=len(table.bad_rows),
            parts=parts,
            reused=reused,
            problems=tuple(summarize_bad_rows(table)),
            values_out_of_range=dict(out_of_range_counts),
            model_version=predictor.version,
            schema_hash=predictor.schema_hash,
        )
        state.finish(index, outcome, _serialize_rejects(table))

    def _read_good_batches(self, table: Table, counts: Counter[str]) -> Iterator[Batch]:
        """Yield the valid rows, and count values that are out of range.

        Raises:
          DataError: more rows than allowed are bad; raised at the end, before the last part is begun.
        """
        for batch in table.read_batches():
            for name, rule in table.columns.rules.items():
                if rule.is_bounded:
                    counts[name] += int(find_out_of_range(batch.values.column(name), rule).sum())
            yield batch
        for name in [name for name, count in counts.items() if not count]:
            del counts[name]
        if len(table.bad_rows) > self._max_bad_rows:
            raise build_bad_rows_error(summarize_bad_rows(table), self._max_bad_rows, FLAGS)


def _serialize_rejects(table: Table) -> bytes:
    """Return the bad rows, a JSON object a line."""
    places = table.reader.find_places([bad.row for bad in table.bad_rows])
    return b"".join(
        json.dumps(
            {
                "file": table.path,
                "row": bad.row,
                "place": places.get(bad.row, table.path),
                "column": bad.column,
                "reason": bad.reason,
                "text": bad.text,
            },
            ensure_ascii=False,
        ).encode()
        + b"\n"
        for bad in table.bad_rows
    )
