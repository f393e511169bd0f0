"""ExampleValidator: anomalies of each split against the schema."""
