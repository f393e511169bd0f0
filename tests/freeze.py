"""Keep the garbage collector off all that is loaded by now: it would copy these pages into each process that forks."""

import gc

gc.freeze()
