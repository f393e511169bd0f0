"""A Vertex AI of one machine: the services that this product uses, over gRPC and TLS, for the unmodified clients.

    python -m emulators.vertex --state runs/vertex

What it answers follows the comments of the service's own protos. Where those are silent (the code for a name that is
taken, or for an outdated etag) the answer is a guess, marked as such in the code.
"""
