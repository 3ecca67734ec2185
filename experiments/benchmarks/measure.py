"""Timing: medians of repeated calls, the machine's matmul rate, peak memory."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def seconds(call: Callable[[], Any], repeats: int) -> list[float]:
    """Wall time of each of `repeats` calls, results awaited."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return times


def matmul_rate(dtype: str, size: int = 4096, repeats: int = 5) -> float:
    """Best of `repeats` square matmuls, in GFLOP/s: what the machine can do."""
    x = jnp.ones((size, size), dtype)
    matmul = jax.jit(lambda x: x @ x)
    matmul(x).block_until_ready()
    return 2 * size**3 / min(seconds(lambda: matmul(x), repeats)) / 1e9


def peak_memory() -> float:
    """The most memory this process has held, GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def spread(values: list[float], unit: str) -> str:
    """Minimum, median and maximum in one line."""
    return (
        f"{statistics.median(values):.4g} {unit} "
        f"(min {min(values):.4g}, max {max(values):.4g}, n = {len(values)})"
    )
