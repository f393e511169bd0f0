"""SchemaGen: the curated schema, or one inferred from the training split."""
