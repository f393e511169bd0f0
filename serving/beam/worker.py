"""Process of one Beam worker, as `serving.beam.worker_pool` starts it: Beam's, with logs on standard error."""

import logging
import os
import sys
import threading

# Before TensorFlow is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from apache_beam.runners.worker import sdk_worker_main

# Beam accepts the options of the classes that are loaded.
import serving.beam.worker_logs  # noqa: F401


def _end_with_pool() -> None:
    """End this process once the pool, which holds the other end of standard input, has ended."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_pool, daemon=True).start()
    logging.basicConfig(stream=sys.stderr, format=f"{os.environ['WORKER_ID']} %(levelname)s %(name)s: %(message)s")
    sdk_worker_main.main(sys.argv)
