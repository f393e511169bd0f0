"""The log of a server's requests: rows, answers and rejections, in Parquet files of one folder."""
