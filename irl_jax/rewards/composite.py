"""Several rewards at once: each is logged, and one number is made of them.

Each is a reward as `irl_jax.rewards.contract` says, `(group, context)`; one that should change
in the course of training reads `context.progress`, the share of updates done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.advantages import group_advantages
from irl_jax.rewards.contract import CALLED, ask, check_takes
from irl_jax.types import Group, InputError, LoopContext, Reward, Rewarded

# (rewards f32[M, B, K], weights f32[M]) -> f32[B, K]
Combination = Callable[[Array, Array], Array]


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
        rewards: name -> (reward, weight); a reward of the group alone is wrapped,
            `of_group(reward)`. Parts and metrics of a reward NAME are called `NAME_…`.
        combine: what makes one of them: `weighted_sum`, `gdpo_advantages`, or a function that
            takes f32[M, B, K] and the weights f32[M], in the order given.
    """

    rewards: Mapping[str, tuple[Reward, float]]
    combine: Combination = weighted_sum

    def __post_init__(self) -> None:
        """Raises `InputError` if there is none, or one that takes other arguments."""
        if not self.rewards:
            raise InputError("rewards: give at least one, as {name: (function, weight)}")
        for name, (reward, _) in self.rewards.items():
            check_takes(f"reward {name!r}", reward, *CALLED)

    def __call__(self, group: Group, context: LoopContext) -> Rewarded:
        """The one reward, each of them as a part by its name, and their extras.

        Raises:
            InputError: a reward has another shape or no floating dtype.
        """
        parts: dict[str, Array] = {}
        metrics: dict[str, Any] = {}
        values = []
        for name, (reward, _) in self.rewards.items():
            said = ask(reward, group, context, f"reward {name!r}")
            values.append(said.value)
            parts |= {name: said.value, **{f"{name}_{k}": x for k, x in said.parts.items()}}
            metrics |= {f"{name}_{k}": x for k, x in said.metrics.items()}
        weights = jnp.array([weight for _, weight in self.rewards.values()], jnp.float32)
        return Rewarded(self.combine(jnp.stack(values), weights), parts, metrics)
