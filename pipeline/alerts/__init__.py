"""Who is told how runs end, and of what is not as it should be: docs/alerts.md. Imports no TensorFlow."""
