"""What the data is: feature declarations and curated schemas. Imports no TensorFlow."""
