"""The registry in a local folder: each version is written whole or not at all."""
