"""Replay: another version of a model predicts logged requests, and its decisions are compared with the logged ones."""
