"""How often the garbage collector looks, in the processes that are ours: coordinators and workers.

By default it looks after every 700 new objects, and finds next to nothing: what a turn makes lives until the run closes.
Measured on a turn of two hundred runs, that is a third of all the coordinator's time. An application's own process
(the embedded engine) is left as it is.
"""

from __future__ import annotations

import gc

#: Objects that are new before it looks; looks at the young before it looks at the older, and at the oldest.
_THRESHOLDS = (20_000, 20, 20)


def collect_seldom() -> None:
    """Call it once in a process of our own, after the modules that it serves are imported."""
    gc.collect()
    # What is imported stays for good: no look at the oldest goes through it again.
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
