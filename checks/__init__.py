"""Checks of the repository itself: its prose and its reference pages. No other package imports them."""
