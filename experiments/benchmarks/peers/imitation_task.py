"""Inverse RL and imitation that are timed, as either library is told of them; needs NumPy only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

GOOD = 475.0  # a return on CartPole, of 500 at most


class Settings(NamedTuple):
    """What a tutorial of `imitation` sets, and what it leaves as it is."""

    learning_rate: float  # of the policy
    clip: float
    value_weight: float
    rows: int  # of either side in an update of the discriminator
    updates: int  # of the discriminator after each unroll
    discount: float = 0.95
    gae_lambda: float = 0.95
    environments: int = 8
    unroll: int = 2048  # steps of each environment
    epochs: int = 5
    minibatch: int = 64

    @property
    def steps(self) -> int:
        """Of all environments in a round: an unroll, and what is learned from it."""
        return self.environments * self.unroll


SETTINGS = {
    "gail": Settings(learning_rate=4e-4, clip=0.2, value_weight=0.5, rows=1024, updates=8),
    "airl": Settings(learning_rate=5e-4, clip=0.1, value_weight=0.1, rows=2048, updates=16),
}


@dataclass(frozen=True)
class Task:
    """What is timed.

    Attributes:
        name: plan, an iteration of maximum causal entropy inverse RL; gail and airl, rounds at
            their `SETTINGS`; learn, GAIL from launch to a return of `GOOD`; seeds, ours alone.
        arrays: file of NumPy arrays. For plan `prob` f64[S, A, S], `start` and `reward` f64[S] and
            `demonstrated` f64[H, S, A], visits; otherwise demonstrations on CartPole, `context`
            f32[N, 500, 4], `final` f32[N, 4] and `action` i32[N, 500].
        count: iterations, rounds, the most rounds (learn), or seeds.
        seed: of the randomness.
        launched: seconds since 1970.
    """

    name: str
    arrays: str
    count: int
    seed: int = 0
    launched: float = 0.0


def read_task() -> Task:
    """The task in the command line, as JSON."""
    return Task(**json.loads(sys.argv[1]))


def timed(call: Callable[[], Any], count: int = 1) -> dict[str, float]:
    """Mean seconds a call: `wall`, and `cpu` of all threads of this process."""
    start, used = time.perf_counter(), time.process_time()
    for _ in range(count):
        call()
    wall, cpu = time.perf_counter() - start, time.process_time() - used
    return {"wall": wall / count, "cpu": cpu / count}


def since_launch(task: Task) -> dict[str, float]:
    """Seconds of this process so far, imports among them: `wall` and `cpu`."""
    return {"wall": time.time() - task.launched, "cpu": time.process_time()}
