"""Vertex AI on one machine: the services that this product uses, over gRPC and TLS, for the unmodified clients.

    python -m emulators.vertex --state runs/vertex

Responses follow the comments of the service's own protos. Where those are silent (the code for a name that is taken, or
for an outdated etag), the response is a guess, marked as such in the code.
"""
