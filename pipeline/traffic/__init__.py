"""Live traffic beside the training data: what moved, and whether chance explains it. Imports no TensorFlow."""
