"""Beam's runners: their options, the checks before a job, and workers on other machines."""
