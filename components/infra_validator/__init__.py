"""InfraValidator: the real model server serves the model before it is pushed."""
