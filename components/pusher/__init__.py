"""Pusher: puts a blessed model into a registry as a version."""
