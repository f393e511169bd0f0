"""Predicts the rows of one input file after the other, in Beam or anywhere else; says in files how each ended."""

import json
from collections import Counter
from collections.abc import Collection, Iterator

import apache_beam as beam

from cli.errors import PipelineError
from schemas.tables.typed_columns import Batch, Table, summary, too_many_bad_rows
from schemas.tables.values import out_of_range
from serving.batch import model_loader
from serving.batch.input_files import FLAGS, input_table
from serving.batch.job import Job, Outcome, Record
from serving.batch.prediction_tables import blocks, predicted, serialized
from serving.batch.storage import Folder


class PredictFile(beam.DoFn):
    """Writes the predictions for an input file in parts, those left out that are there already."""

    def __init__(self, job: Job, folder: str, output: str, max_bad_rows: int) -> None:
        """Args:
        job: what is to be done.
        folder: folder of the model's version, where the job was started.
        output: the folder that is written to.
        max_bad_rows: so many rows of a file may not fit.
        """
        self._job = job.model_dump_json()
        self._folder = folder
        self._output = output
        self._max_bad_rows = max_bad_rows

    def process(self, element: tuple[int, Collection[str]]) -> Iterator[None]:
        """Take the index of a file among the job's inputs, and its existing parts; yield nothing."""
        index, there = element
        record = Record(Folder(self._output))
        job = Job.model_validate_json(self._job)
        try:
            self._predict(index, there, job, record)
        except PipelineError as error:
            # As a file, not an exception: Beam would bury the one line in a stack trace.
            path = job.inputs[index].path
            record.finish(index, Outcome(path=path, error=str(error), exit_code=error.exit_code))
        yield from ()

    def _predict(self, index: int, there: Collection[str], job: Job, record: Record) -> None:
        """Record no outcome if another file was refused meanwhile: the next run continues here."""
        folder = model_loader.here(job.model, self._folder)
        predictor = model_loader.loaded(folder, allow_unvalidated=job.allow_unvalidated)
        features = model_loader.declared(folder)
        path = job.inputs[index].path
        table = input_table(path, job, features, self._max_bad_rows)
        rows = parts = reused = 0
        outside: Counter[str] = Counter()
        for block in blocks(self._good_batches(table, outside), job.rows_per_part):
            if record.stopped():
                return
            name = job.part_name(index, parts)
            if name in there:
                reused += 1
            else:
                made = predicted(block, path, job.keys, predictor, features)
                record.folder.write(name, serialized(made, job.output_format))
            rows += block.num_rows
            parts += 1
        outcome = Outcome(
            path=path,
            rows=rows,
            rejected=len(table.bad_rows),
            parts=parts,
            reused=reused,
            problems=tuple(summary(table)),
            ids_out_of_range=dict(outside),
            model_version=predictor.version,
            schema_hash=predictor.schema_hash,
        )
        record.finish(index, outcome, _rejects(table))

    def _good_batches(self, table: Table, outside: Counter[str]) -> Iterator[Batch]:
        """Yield the rows that fit, and count IDs that are out of range.

        Raises at the end, and before the last part is begun, if more rows than allowed do not fit.
        """
        for batch in table.batches():
            for name, rule in table.columns.rules.items():
                if rule.num_ids is not None:
                    outside[name] += int(out_of_range(batch.values.column(name), rule).sum())
            yield batch
        for name in [name for name, count in outside.items() if not count]:
            del outside[name]
        if len(table.bad_rows) > self._max_bad_rows:
            raise too_many_bad_rows(summary(table), self._max_bad_rows, FLAGS)


def _rejects(table: Table) -> bytes:
    """Return the bad rows, a JSON object a line."""
    places = table.reader.places([bad.row for bad in table.bad_rows])
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
