"""TFX components and the functions that stock ones call, each usable in any pipeline."""
