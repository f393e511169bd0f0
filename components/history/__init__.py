"""History: the statistics of the data that the last pushed model was trained on."""
