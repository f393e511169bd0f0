"""Late labels of logged predictions, joined to them in the log's folder `outcomes`. Imports no TensorFlow."""
