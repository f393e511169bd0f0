"""ExampleGen: files of a table to splits of tf.Example."""
