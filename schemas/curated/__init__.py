"""Curated schemas: TFMD files that people keep, and the changes to them."""
