"""A model and its questions, and what may be made of samples that are not the policy's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.arithmetic.chain_sums import (
    different,
    policy_config,
    prompt_tokens,
    solution_tokens,
)
from experiments.arithmetic.practice import Model, Practice, reinforced, shown
from experiments.stale_samples.config import Config
from irl_jax.dynamics.weights import masked_weight, staleness_mask, truncated_weight
from irl_jax.losses.policy import grpo, policy_gradient
from irl_jax.losses.reduction import sequence_mean
from irl_jax.losses.surrogate import likelihood
from irl_jax.train.objectives import PolicyLoss
from irl_jax.train.progress import Progress
from irl_jax.types import Group, InputError, Loss

TERMS, DIGITS = 2, 1  # of a question; there are some 200
DRAWN = 4000  # questions that are drawn to find them all

FRESH = "fresh samples"
PLAIN, CLIPPED, FILTERED = "as if fresh", "clipped ratios", "clipped, stale failures left out"
TRUNCATED, WHOLE = "truncated weights, of tokens", "truncated weights, of completions"
MASKED, MASKED_WHOLE = "masked weights, of tokens", "masked weights, of completions"

Weight = Callable[[Array, Array, Array], Array]  # (logp, behaviour_logp, mask) -> of tokens


def weighted(
    logp: Array, batch: Group, *, advantage: Array, weight: Weight, ref_logp: None = None
) -> Loss:
    """The policy gradient of weighted advantages, L = −1/N Σᵢ 1/|oᵢ| Σₜ wᵢₜ Aᵢ log π(oᵢₜ)."""
    return policy_gradient(
        logp, batch,
        advantage=advantage[..., None] * weight(logp, batch.logp, batch.mask),
        surrogate=likelihood, aggregate=sequence_mean, ref_logp=ref_logp,
    )  # fmt: skip


def filtered(
    logp: Array, batch: Group, *, advantage: Array, clip: float, limit: float, ref_logp: None = None
) -> Loss:
    """GRPO without the stale completions that it would make less likely."""
    near = staleness_mask(
        jax.lax.stop_gradient(logp), batch.logp, advantage, batch.mask, limit=limit
    )
    return grpo(logp, batch, advantage=advantage * near, clip=clip, ref_logp=ref_logp)


@cache
def losses(config: Config) -> dict[str, PolicyLoss]:
    """What is learned from stale samples; the same objects again, so that each compiles once."""
    cap, low = config.cap, config.low
    by = lambda weight: partial(weighted, weight=weight)
    return {
        PLAIN: by(lambda logp, behaviour, mask: jnp.ones_like(logp)),
        CLIPPED: partial(grpo, clip=config.clip),
        FILTERED: partial(filtered, clip=config.clip, limit=config.limit),
        TRUNCATED: by(partial(truncated_weight, cap=cap)),
        WHOLE: by(partial(truncated_weight, cap=cap, whole=True)),
        MASKED: by(partial(masked_weight, low=low, high=cap)),
        MASKED_WHOLE: by(partial(masked_weight, low=0.0, high=cap, whole=True)),
    }


class World:
    """Questions of a seed, and a model that was shown a few solutions.

    Attributes:
        practised: questions that are practised; their solutions were not shown.
        model: at the start.
        practice: how it practises.
    """

    def __init__(self, config: Config, seed: int, progress: Progress):
        """Draws the questions and trains the model.

        Raises:
            InputError: there are too few different questions.
        """
        self.config, self.seed, self._progress = config, seed, progress
        every = different(DRAWN, terms=TERMS, digits=DIGITS)
        wanted = config.lessons + config.practised
        if len(every) < wanted:
            raise InputError(
                f"practised: there are {len(every)} different questions, fewer than "
                f"{config.practised} and {config.lessons} lessons; lower it"
            )
        order = np.random.default_rng([seed, 0]).permutation(len(every))[:wanted]
        asked = [every[i] for i in order]
        lessons, self.practised = asked[: config.lessons], asked[config.lessons :]
        self.model = shown(
            policy_config(TERMS, DIGITS, width=config.width, layers=config.layers),
            [(question.text, question.solution) for question in lessons],
            steps=config.shown, batch_size=config.lessons, seed=seed, progress=progress,
        )  # fmt: skip
        self.practice = Practice(
            prompts=config.prompts,
            completions=config.completions,
            width=prompt_tokens(TERMS, DIGITS),
            tokens=solution_tokens(TERMS, DIGITS),
            lr=config.lr,
            steps=config.batches,
        )

    def after(self, name: str, lag: int) -> Model:
        """The model after it learned by a loss from samples that are so many updates old."""
        return reinforced(
            self.model, self.practice.batches(self.practised, self.seed), self.practice,
            seed=self.seed, progress=self._progress, stage=f"{name}, {lag}",
            loss=losses(self.config)[name], lag=lag,
        )  # fmt: skip

    def accuracy(self, model: Model) -> float:
        """The share of attempts at practised questions that end with the right answer."""
        return self.practice.accuracy(
            model, self.practised, attempts=self.config.attempts, seed=self.seed
        )
