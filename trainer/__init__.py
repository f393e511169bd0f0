"""The Keras wide-and-deep model and its training: what `run_fn` of TFX's Trainer calls."""
