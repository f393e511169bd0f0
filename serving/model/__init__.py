"""The served model: its signatures, its inputs, and predictions with it."""
