"""Rollout: a rule that promotes, rejects or rolls back a version by what servers and outcomes measured."""
