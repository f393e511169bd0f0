"""The model server: HTTP and gRPC."""
