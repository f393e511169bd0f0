"""Alerts: notifications of how runs end, and of problems: docs/alerts.md. Imports no TensorFlow."""
