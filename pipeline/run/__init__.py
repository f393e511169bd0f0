"""A run on this machine: checks, lock, nodes, records and its summary."""
