"""Several rewards at once: each is logged, and one number is made of them.

A reward of completions is `(group) -> f32[B, K]`; one that should change in the course of
training names a keyword `progress` and is told the share of updates done, in [0, 1).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.advantages import group_advantages
from irl_jax.masking import as_float
from irl_jax.types import Group, InputError

# (rewards f32[M, B, K], weights f32[M]) -> f32[B, K]
Combination = Callable[[Array, Array], Array]


def call_with(function: Callable, *args: Any, **offered: Any) -> Any:
    """Calls a function with those of the keywords that it names.

    Example:
        >>> call_with(lambda x: x, 1, progress=0.5)
        1
        >>> call_with(lambda x, *, progress: x + progress, 1, progress=0.5)
        1.5
    """
    named = inspect.signature(function).parameters
    return function(*args, **{k: v for k, v in offered.items() if k in named})


def weighted_sum(rewards: Array, weights: Array) -> Array:
    """One reward, r = Σₘ wₘ rₘ.

    Args:
        rewards: f32[M, B, K].
        weights: f32[M].
    """
    return jnp.tensordot(weights, rewards, 1)


def gdpo_advantages(rewards: Array, weights: Array) -> Array:
    """Each reward normalised within its group before they are added (GDPO).

    r = Σₘ wₘ (rₘ − mean(rₘ)) / std(rₘ). Combinations of rewards that have one sum keep
    different advantages. Whiten it over the batch (`dynamics.advantages.whiten`), so that
    its scale does not grow with M, instead of normalising it within groups again.

    Args:
        rewards: f32[M, B, K], K >= 2.
        weights: f32[M].

    Returns:
        f32[B, K]; of mean 0 in every group.

    Reference: Liu et al. 2026, "GDPO: Group reward-Decoupled Normalization Policy
    Optimization for Multi-reward RL Optimization", arXiv 2601.05242.
    """
    return weighted_sum(jnp.stack([group_advantages(r) for r in rewards]), weights)


@dataclass(frozen=True)
class CompositeReward:
    """A reward made of several, for `train.online.train_online`.

    Where prompts that teach nothing are replaced, `train_online(decides=NAME)` says which of them
    tells: the correctness for DAPO, and not the sum with terms of form or length.

    Attributes:
        rewards: name -> (function, weight); the function is `(group) -> f32[B, K]`, or
            `(group, *, progress) -> f32[B, K]`.
        combine: what makes one of them: `weighted_sum`, `gdpo_advantages`, or a function that
            takes f32[M, B, K] and the weights f32[M], in the order given.
    """

    rewards: Mapping[str, tuple[Callable[..., Array], float]]
    combine: Combination = weighted_sum

    def __post_init__(self) -> None:
        """Raises `InputError` if there is none."""
        if not self.rewards:
            raise InputError("rewards: give at least one, as {name: (function, weight)}")

    def __call__(self, group: Group, *, progress: float = 0.0) -> tuple[Array, dict[str, Array]]:
        """The one reward f32[B, K], and each of them by its name.

        Raises:
            InputError: a reward has another shape or no floating dtype.
        """
        shape = group.mask.shape[:2]
        each = {
            name: as_float(f"reward {name!r}", call_with(f, group, progress=progress), shape)
            for name, (f, _) in self.rewards.items()
        }
        weights = jnp.array([weight for _, weight in self.rewards.values()], jnp.float32)
        return self.combine(jnp.stack([*each.values()]), weights), each
