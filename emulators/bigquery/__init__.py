"""BigQuery on one machine: its REST API and its Storage Read API over a folder of CSV and Parquet files."""
