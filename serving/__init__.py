"""Serving: the model and its signatures, the registry of versions, the server, and batch prediction."""
