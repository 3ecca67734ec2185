"""The teacher that `--teacher` names: a model that says of every token how likely it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.masking import masked_mean
from irl_jax.models.mesh import fetch
from irl_jax.recipes.align_config import AlignConfig
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.run_reward import same_tokens
from irl_jax.rollout.session import Session
from irl_jax.train.progress import Progress
from irl_jax.types import Group, InputError, LoopContext


@dataclass(frozen=True)
class Teacher:
    """A teacher, in the place of a reward: see `recipes.run_reward.RunReward`.

    Attributes:
        session: the teacher on the policy's mesh.
    """

    session: Session

    def reward(self, group: Group, context: LoopContext) -> Array:
        """0 for every completion, f32[B, K]: a teacher speaks to tokens, in the loss."""
        return jnp.zeros_like(group.reward)

    def measure(self, group: Group, texts: list[list[str]]) -> dict[str, np.ndarray]:
        """{"reward": f64[B, K]}, the mean of log π_T/π over tokens: minus their divergence, nats.

        Of an expectation: the mean over a policy's own completions is −KL(π‖π_T) a token.
        """
        gap = self.session.logp(self.session.model.params, group) - group.logp
        return {"reward": fetch(masked_mean(gap, group.mask, axis=-1)).astype(np.float64)}


def load_teacher(config: AlignConfig, session: Session, progress: Progress) -> Teacher:
    """The teacher of a run, on the mesh of its policy.

    Args:
        config: of the run, with its directory.
        session: the policy.
        progress: shows how long a tiny model takes to make.

    Raises:
        InputError: there is no such model, it has other tokens than the policy, or a shorter
            context than the run needs.
    """
    assert config.teacher is not None and config.run_dir is not None
    model = load_language_model(
        config.teacher, Path(config.run_dir), seed=config.seed, dtype=config.dtype,
        progress=progress, tokenizer=config.tokenizer, mesh=session.mesh,
    )  # fmt: skip
    if not same_tokens(model.tokenizer, session.model.tokenizer):
        raise InputError(
            f"teacher: {config.teacher}: has other tokens than the policy; take a teacher of the "
            "policy's family"
        )
    needed = session.prompt_width + session.max_new_tokens
    if needed > model.config.max_positions:
        raise InputError(
            f"teacher: {config.teacher}: has a context of {model.config.max_positions} tokens, "
            f"the run needs {needed}; shorten prompts or --sample.max-new-tokens"
        )
    return Teacher(
        Session.create(
            model,
            session.mesh,
            prompt_width=session.prompt_width,
            max_new_tokens=session.max_new_tokens,
            sampling=session.sampling,
        )
    )
