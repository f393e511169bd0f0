"""Starts the model server: `python -m serving`."""

from serving.server.command import main

if __name__ == "__main__":
    main()
