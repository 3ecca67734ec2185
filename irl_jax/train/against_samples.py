"""Policies that learn from demonstrations against samples, without a discriminator.

Groups hold samples of a policy and, last, what was demonstrated; see
`irl_jax.rollout.opponents.with_demonstrations`. SPIN prefers demonstrations to what an earlier
policy wrote, IQ-Learn reads the logits of both as one soft Q. What either recovers of the reward
is in its policy: log π/π_ref.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.returns import next_value
from irl_jax.losses.reduction import token_mean
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.logprob import completion_logp, completion_q
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.objectives import Adapt, check_sampling
from irl_jax.train.state import TrainState
from irl_jax.train.step import Step
from irl_jax.types import Group, Loss, Objective, Preference, PyTree, Rating


def spin_objective(
    config: DecoderConfig, adapt: Adapt, loss: Callable[..., Loss], *, sampling: Sampling
) -> Objective:
    """Self-play fine-tuning: a demonstration is preferred to each sample of the opponent.

    L = ℓ(β log π(y_E|x)/π_t(y_E|x) − β log π(y|x)/π_t(y|x)), y ~ π_t, the opponent, which is the
    policy of an earlier update: `with_opponent`. Its log-probs are the group's, so that it is run
    once, when it writes.

    Args:
        config: the shape.
        adapt: how the trained parameters become a decoder.
        loss: of pairs, as `train.objectives.direct_objective` takes it: `partial(dpo, beta=0.1)`.
        sampling: how the opponent wrote.

    Returns:
        `(params, group, key, reference) -> Loss`, K samples and the demonstration of each prompt
        in the group, with the opponent's log-probs. A metric more than the loss has:
        `demonstration_nll`, nats a token.

    Raises:
        InputError: as `train.objectives.check_sampling`.

    Reference: Chen et al. 2024, "Self-Play Fine-Tuning Converts Weak Language Models to Strong
    Language Models", arXiv 2401.01335, eq. 4.7, algorithm 1.

    Differs: the opponent writes anew for every batch, where the paper has it answer all prompts
    before it is trained against.
    """
    check_sampling(sampling)

    def objective(params: PyTree, group: Group, key: Array, reference: PyTree) -> Loss:
        logp = completion_logp(
            config, adapt(params, reference), group.context, group.action,
            temperature=sampling.temperature,
        )  # fmt: skip
        weight = jnp.ones(group.mask[:, :-1, 0].size)
        absent: Any = None
        pairs = Preference(
            absent, in_pairs(group.action), in_pairs(group.mask), jnp.zeros_like(weight), weight
        )
        found = loss(in_pairs(logp), in_pairs(group.logp), pairs)
        nll = token_mean(-logp[:, -1], group.mask[:, -1])
        return replace(found, metrics={**found.metrics, "demonstration_nll": nll})

    return objective


def in_pairs(x: Array) -> Array:
    """The demonstration, then a sample: [B, K + 1, T] -> [B K, 2, T]."""
    shown = jnp.broadcast_to(x[:, -1:], x[:, :-1].shape)
    return jnp.stack([shown, x[:, :-1]], axis=2).reshape(-1, 2, x.shape[-1])


def with_opponent(step: Step, *, every: int) -> Step:
    """A step whose state has an opponent, which becomes the policy after every so many updates.

    Args:
        step: of `train.step.side_by_side`, with a "policy".
        every: updates of an iteration of self-play.

    Returns:
        The step, of a state whose parameters have an "opponent" beside: `meet`. No gradient and no
        optimizer knows it.
    """

    def whole(
        state: TrainState, batch: PyTree, *frozen: PyTree
    ) -> tuple[TrainState, dict[str, Array]]:
        alone = {name: x for name, x in state.params.items() if name != "opponent"}
        after, metrics = step(replace(state, params=alone), batch, *frozen)
        again = after.step % every == 0
        opponent = jax.tree.map(
            lambda x, y: jnp.where(again, x, y), after.params["policy"], state.params["opponent"]
        )
        return replace(after, params=after.params | {"opponent": opponent}), metrics

    return whole


def meet(state: TrainState) -> TrainState:
    """A state of `train.state.joined` before its first update, its policy its own opponent."""
    opponent = jax.tree.map(jnp.copy, state.params["policy"])
    return replace(state, params=state.params | {"opponent": opponent})


def online_soft_q_objective(
    config: DecoderConfig, adapt: Adapt, loss: Callable[..., Loss], *, discount: float | Array
) -> Objective:
    """Demonstrations and the policy's own samples under one soft Q, its logits.

    A prompt weighs one demonstration as much as its K samples together, and a completion the sum
    of its tokens, so that with γ = 1 both sides telescope to the V of the same prompt.

    Args:
        config: the shape.
        adapt: how the trained parameters become a decoder.
        loss: of Q, V and γ V′, f32[N] each, and a `Rating`: `partial(iq_learn_online, alpha=25.0)`.
        discount: γ in [0, 1].

    Returns:
        `(params, group, key, reference) -> Loss`, the group as in `spin_objective`, but that the
        policy itself wrote the samples, at temperature 1. Metrics: `demonstration_nll`, nats a
        token, and `token_reward_demonstration` and `token_reward_policy`, Q − γ V′.

    Reference: Garg et al. 2021, arXiv 2106.12142; Wulfmeier et al. 2024, "Imitating Language via
    Scalable Inverse Reinforcement Learning", arXiv 2409.01369.

    Differs: what was cut counts as ended, and an end is worth 0.
    """

    def objective(params: PyTree, group: Group, key: Array, reference: PyTree) -> Loss:
        decoder = adapt(params, reference)
        q, value = completion_q(config, decoder, group.context, group.action)
        following = next_value(value, group.mask, discount=discount)
        count = group.mask.shape[1] - 1
        shown = jnp.arange(count + 1)[:, None] == count
        score = jnp.broadcast_to(shown, group.mask.shape).astype(jnp.float32)
        weight = jnp.where(group.mask, jnp.where(shown, 1.0, 1.0 / count), 0.0)
        absent: Any = None
        batch = Rating(absent, absent, absent, score=score.ravel(), weight=weight.ravel())
        found = loss(q.ravel(), value.ravel(), following.ravel(), batch)
        metrics = {
            "token_reward_demonstration": found.metrics["reward_expert"],
            "token_reward_policy": found.metrics["reward_policy"],
            "demonstration_nll": token_mean((value - q)[:, -1], group.mask[:, -1]),
        }
        return replace(found, metrics=metrics)

    return objective
