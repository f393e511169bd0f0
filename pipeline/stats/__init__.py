"""The page of a run's statistics."""
