"""Builds the installable package (for Beam workers and images); metadata is in pyproject.toml."""

from setuptools import setup

setup()
