"""A reward model: a LoRA and a scalar head, or an ensemble of them.

Members share the frozen model, its batches and one step; their starts differ. What they
disagree on is what the data leave open, and a cautious aggregate does not reward going there.

Reference: Coste et al. 2023, "Reward Model Ensembles Help Mitigate Overoptimization",
arXiv 2310.02743; Zhai et al. 2023, arXiv 2401.00243 (LoRAs as members).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.mesh import fetch, global_batch
from irl_jax.recipes.policy_training import Training
from irl_jax.recipes.reward_config import MembersConfig
from irl_jax.rewards.aggregate import disagreement, lower_confidence_bound, worst_case
from irl_jax.train.checkpoint import load_params
from irl_jax.train.objectives import (
    Adapt,
    lora,
    preference_rewards,
)
from irl_jax.types import (
    Group,
    LoopContext,
    Prompt,
    PyTree,
    Rewarded,
)

REWARD = "reward"  # stage, and its directory of checkpoints
IRL = "irl"  # the same, of a reward that is learned by turns with a policy


def reward_params(run: Path) -> PyTree:
    """What a run learned of its reward, {"decoder": LoRA, "head": scalar head}.

    Args:
        run: directory of `irl-jax reward`, of `irl-jax irl` or of
            `experiments.preference_to_policy`.

    Raises:
        InputError: it has no sound checkpoint.
    """
    by_turns = run / "checkpoints" / IRL
    if by_turns.is_dir():
        return load_params(by_turns)["discriminator"]
    return load_params(run / "checkpoints" / REWARD)


def aggregate(rewards: Array, config: MembersConfig) -> Array:
    """One reward of the members', f32[M, ...] -> f32[...]; see `irl_jax.rewards.aggregate`."""
    if config.aggregate == "worst_case":
        return worst_case(rewards)
    if config.aggregate == "lower_bound":
        return lower_confidence_bound(rewards, deviations=config.deviations)
    return rewards.mean(0)


def member_rewards(
    config: DecoderConfig, params: PyTree, reference: PyTree, context: Prompt, action: Array,
    mask: Array, *, adapt: Adapt, members: int,
) -> Array:  # fmt: skip
    """Rewards of completions by every member, f32[M, B, K].

    Args:
        config: the shape of the decoder.
        params: {"decoder": LoRA, "head": scalar head}; of several members on a leading axis.
        reference: frozen parameters.
        context: `Prompt` of B rows.
        action: i32[B, K, T].
        mask: bool[B, K, T].
        adapt: how `params["decoder"]` becomes a decoder.
        members: M.
    """
    one = lambda own: preference_rewards(config, own, reference, context, action, mask, adapt=adapt)
    return one(params)[None] if members == 1 else jax.vmap(one)(params)


@partial(jax.jit, static_argnames=("config", "members"))
def _rewards(
    config: DecoderConfig, members: int, params: PyTree, reference: PyTree, scale: float,
    context: Prompt, action: Array, mask: Array,
) -> Array:  # fmt: skip
    return member_rewards(
        config, params, reference, context, action, mask, adapt=lora(scale), members=members
    )


@dataclass(frozen=True)
class RewardModel:
    """A trained reward model: called on a batch, it gives one reward, f32[B, K].

    Attributes:
        training: the session and the LoRA that it was trained with.
        config: how many members there are, and how they come to one reward.
        params: {"decoder": LoRA, "head": scalar head}; of several members on a leading axis.
    """

    training: Training
    config: MembersConfig
    params: PyTree

    def members(self, batch: Any) -> Array:
        """Rewards of a batch's completions by every member, f32[M, B, K]."""
        session, model = self.training.session, self.training.session.model
        with jax.set_mesh(session.mesh):
            batch = global_batch(session.mesh, (batch.context, batch.action, batch.mask))
            return _rewards(
                model.config, self.config.members, self.params, model.params,
                self.training.lora.scale, *batch,
            )  # fmt: skip

    def __call__(self, batch: Any) -> Array:
        """One reward of the members', of a batch's completions, f32[B, K]."""
        return aggregate(self.members(batch), self.config)

    def measure(self, group: Group, texts: list[list[str]]) -> dict[str, np.ndarray]:
        """The reward, and what several members disagree, f64[B, K], for `Session.respond`."""
        del texts
        each = self.members(group)
        found = {"reward": aggregate(each, self.config)}
        if self.config.members > 1:
            found["disagreement"] = disagreement(each)
        return {name: x.astype(np.float64) for name, x in fetch(found).items()}

    def reward(self, group: Group, context: LoopContext) -> Rewarded:
        """The reward for `train.online.train_online`, and the members' mean `disagreement`."""
        each = self.members(group)
        several = self.config.members > 1
        metrics = {"disagreement": disagreement(each).mean()} if several else {}
        return Rewarded(aggregate(each, self.config), metrics=metrics)
