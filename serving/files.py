"""The files of a pushed version beside the SavedModel's own, by their paths below its folder."""

# The features, crosses and label that the model was trained on, as JSON; written by the export.
DECLARATION_FILE = "assets.extra/feature_set.json"
# What an export leaves open, and a push fills in: its first line is the version. The graph reads it.
VERSION_FILE = "assets/model_version.txt"
# Who pushed it, from which run, its content hash; written last.
RELEASE_FILE = "assets.extra/release.json"
# Requests with the answers of the evaluated model.
GOLDEN_FILE = "assets.extra/golden.json"
# Of the training split.
STATISTICS_FILE = "assets.extra/train_statistics.pb"

# Written by a push, so they are no part of what was evaluated.
WRITTEN_BY_PUSH = frozenset({VERSION_FILE, RELEASE_FILE, GOLDEN_FILE, STATISTICS_FILE})
