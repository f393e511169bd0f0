"""The images, built and used for real; needs root, so `make test-images` and not `make test`."""
