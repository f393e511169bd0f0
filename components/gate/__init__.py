"""Gate: stops a run on the anomalies that the validation policy does not allow."""
