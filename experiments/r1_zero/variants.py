"""Algorithms that learn from verifiable rewards; a row is all that one takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp
from jax import Array

from experiments.r1_zero.tasks import LENGTH
from irl_jax.dynamics.advantages import group_advantages, leave_one_out
from irl_jax.dynamics.weights import above
from irl_jax.losses.policy import cispo, dapo, dr_grpo, grpo, gspo, reinforce, weighted_sft
from irl_jax.train.objectives import PolicyLoss


@dataclass(frozen=True)
class Variant:
    """An algorithm.

    Attributes:
        label: its name.
        loss: of `irl_jax.losses.policy`.
        advantage: rewards f32[B, K] -> f32[B, K].
        resample: batches drawn to replace prompts of which all answers are right, or all wrong.
        overlong: tokens before the limit over which a penalty grows; 0 for none.
    """

    label: str
    loss: PolicyLoss
    advantage: Callable[[Array], Array] = group_advantages
    resample: int = 0
    overlong: int = 0


HIGHER = (0.2, 0.28)
CENTRED = partial(group_advantages, scale=False)
RIGHT = lambda reward: above(reward, threshold=1.0).astype(jnp.float32)
GRPO, GRPO_HIGHER = partial(grpo, clip=0.2), partial(grpo, clip=HIGHER)
DAPO = partial(dapo, clip=HIGHER)
DR_GRPO = partial(dr_grpo, clip=0.2, length=float(max(LENGTH.values())))
VARIANTS = {
    "grpo": Variant("GRPO", GRPO),
    "higher": Variant("+ clip-higher", GRPO_HIGHER),
    "dynamic": Variant("+ dynamic sampling", GRPO_HIGHER, resample=1),
    "token": Variant("+ token-level loss", DAPO, resample=1),
    "dapo": Variant("+ overlong shaping (DAPO)", DAPO, resample=1, overlong=4),
    "dr_grpo": Variant("Dr. GRPO", DR_GRPO, CENTRED),
    "gspo": Variant("GSPO", partial(gspo, clip=(3e-4, 4e-4))),
    "cispo": Variant("CISPO", partial(cispo, clip=(1.0, 0.28))),
    "rloo": Variant("RLOO", reinforce, leave_one_out),
    "expert": Variant("expert iteration", weighted_sft, RIGHT),
}
ABLATION = ("grpo", "higher", "dynamic", "token", "dapo")
