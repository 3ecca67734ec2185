"""What random numbers are drawn for, by name: no two purposes share bits.

A recipe has a seed. Each of its stages has a key, `stage_key(seed, Stage.REWARD)`; a loop
gives each of the functions that it calls a key of its own in every update,
`loop_key(key, Draw.PREPARE, done)`. Update n itself draws from `fold_in(key, n)`.
"""

from __future__ import annotations

from enum import IntEnum

import jax
from jax import Array


class Stage(IntEnum):
    """The stages of a recipe."""

    REWARD = 1  # a reward model is trained
    POLICY = 2  # a policy is trained
    ANSWERS = 3  # policies are measured by their answers, all with the same numbers
    DIVERGENCE = 4  # answers that the KL to the reference is estimated from


class Draw(IntEnum):
    """What a loop draws for in an update beside the update itself: four letters each."""

    ROLLOUT = 0x726F6C6C
    REWARD = 0x6A756467
    PREPARE = 0x70726570
    OBSERVE = 0x6F627376
    EVALUATE = 0x6576616C


def stage_key(seed: int, stage: Stage) -> Array:
    """The typed PRNG key of a stage."""
    return jax.random.fold_in(jax.random.key(seed), stage)


def loop_key(key: Array, draw: Draw, done: int | Array, attempt: int = 0) -> Array:
    """The typed PRNG key of a draw after `done` updates.

    Args:
        key: of the `TrainState`.
        draw: what for.
        done: number of updates done.
        attempt: 0, 1, ... where prompts are replaced and there are several rollouts.
    """
    return jax.random.fold_in(jax.random.fold_in(key, draw + attempt), done)
