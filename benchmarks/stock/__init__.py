"""The yardstick: the same task as `pipeline/`, written with nothing but TFX's stock components."""
