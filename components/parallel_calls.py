"""TensorFlow's functions, called for each batch of a file in threads."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import tensorflow as tf

# Besides the one that the caller has: this bounds memory.
_BATCHES_AHEAD = 2
_READ_BYTES = 1 << 20
T = TypeVar("T")


def call_for_batches(function: Callable[[tf.Tensor], T], file: str, rows: int) -> Iterator[T]:
    """Yield what a function makes of each batch of records, in order, while it works on the next ones.

    A function that is mapped over a data set is compiled again for each file, which takes seconds for a wide table.

    Args:
      function: Concrete function of records, [batch].
      file: TFRecord file, plain or ending in .gz, local or remote.
      rows: Number of records of a batch.
    """
    options = tf.data.Options()
    options.experimental_warm_start = False
    records = tf.data.TFRecordDataset(file, "GZIP" if file.endswith(".gz") else "", buffer_size=_READ_BYTES)
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(_BATCHES_AHEAD, thread_name_prefix="batches") as pool:
        try:
            for batch in records.batch(rows).prefetch(1).with_options(options):
                waiting.append(pool.submit(function, batch))
                if len(waiting) > _BATCHES_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
