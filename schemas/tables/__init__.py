"""Reading tables: files of CSV, Parquet and TFRecord as rows and typed columns."""
