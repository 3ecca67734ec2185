"""Counting what XLA compiles, by the name of the jitted function."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import jax

EVENT = "/jax/core/compile/backend_compile_duration"


@contextmanager
def count_compilations() -> Iterator[Counter]:
    """Counts the programs handed to the backend while the context is open.

    A program found in the persistent cache counts, too: it was lowered anew.
    """
    counts: Counter = Counter()
    is_open = True

    def listen(event: str, duration: float, **about: str) -> None:
        del duration
        if is_open and event == EVENT:
            counts[about["fun_name"]] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield counts
    is_open = False  # a listener cannot be taken back by the public API
