"""The same answers for a pipeline on Vertex AI: from its jobs, Vertex ML Metadata, the registry and the endpoint."""
