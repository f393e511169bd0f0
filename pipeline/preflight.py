"""Everything that can be refused before Beam starts, in a second or two. Imports no TensorFlow."""

from components.config import FileSplit
from components.csv_table import Columns, CsvTable
from components.data_files import matching_files
from pipeline.config import PipelineConfig
from pipeline.run_root import RunRoot
from schemas.curated import check_schema, load_schema
from serving.registry import Registry


def check(config: PipelineConfig, run_root: RunRoot) -> None:
    """Holds the config against the schema, the files' headers and the registry.

    Raises:
      ConfigError: the schema is not readable or does not describe the declared columns.
      DataError: a file is missing, empty, or has other columns.
      PushError: the push could not succeed.
    """
    if config.data.schema_file is not None:
        check_schema(config.data.schema_file, load_schema(config.data.schema_file), config.feature_set)
    columns = Columns.declared(config.data, config.feature_set)
    for name, split in config.data.splits.items():
        if isinstance(split, FileSplit):
            for path in matching_files(config.data.base, split.files, name):
                CsvTable(path, columns).check_header()
    registry = Registry(run_root.registry(config), config.push.model_name)
    registry.check(pipeline=config.name, version=config.push.version)
