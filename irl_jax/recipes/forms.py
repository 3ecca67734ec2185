"""How a loss of the table becomes what a language model is trained by.

`losses.table` says in which form a loss takes a model's outputs; here each form is put on a
decoder: an objective of data, a method that learns from its samples, or a reward model.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.advantages import whiten
from irl_jax.dynamics.returns import returns
from irl_jax.dynamics.shaping import kl_penalised
from irl_jax.losses.rating import increasing
from irl_jax.losses.table import Published
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.heads import apply_scalar_head, init_scalar_head, last_value
from irl_jax.models.logprob import completion_hidden, completion_hidden_logp
from irl_jax.rollout.guide import MixtureGuide
from irl_jax.rollout.pairs import in_twos, sampled_pair
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.actor_critic import ppo_objective, valued
from irl_jax.train.methods import Beside, Method, policy_gradient
from irl_jax.train.objectives import (
    Adapt,
    PolicyBatch,
    direct_objective,
    distil_objective,
    gkd_objective,
    mismatched_objective,
    policy_objective,
    reference_free_objective,
    sft_objective,
    soft_q_objective,
    tdpo_objective,
    wpo_objective,
)
from irl_jax.train.prepare import exploring_pair, nash_md, remax, self_play, token_baseline
from irl_jax.types import Group, Loss, Objective, PyTree

Options = Mapping[str, Any]  # hyper-parameters of a loss by name


def offline_objective(
    row: Published, options: Options, config: DecoderConfig, adapt: Adapt
) -> Objective:
    """The objective of a policy that learns from data.

    Args:
        row: of the loss.
        options: its hyper-parameters.
        config: shape of the decoder.
        adapt: how what is trained becomes a decoder.
    """
    loss = partial(row.loss, **row.fixed, **options)
    match row.form:
        case "likelihood":
            return sft_objective(config, adapt)
        case "soft_q":
            return soft_q_objective(config, adapt, loss)
        case "reference":
            return direct_objective(config, adapt, loss)
        case "reference_free":
            return reference_free_objective(config, adapt, loss)
        case "mismatched_kl":
            return mismatched_objective(config, adapt, loss)
        case "token_kl":
            return tdpo_objective(config, adapt, **options)
        case "on_policy_weight":
            return wpo_objective(config, adapt, **options)
    raise ValueError(f"{row.form}: is no form of a policy that learns from data")


def online_method(
    row: Published, options: Options, sampling: Sampling, length: int,
    teacher: DecoderConfig | None = None,
) -> Method:  # fmt: skip
    """The method of a policy that learns from its samples.

    Args:
        row: of the loss.
        options: its hyper-parameters, with the pull to the reference (β, τ) among them; the
            method's own strength is not read.
        sampling: how completions are drawn.
        length: tokens of a completion, at most; of a loss that divides by it.
        teacher: its shape, of a loss that has one.
    """
    if row.taught:
        assert teacher is not None
        return _taught(row, options, sampling, teacher)
    options = dict(options)
    if "length" in inspect.signature(row.loss).parameters:
        options["length"] = length
    match row.form:
        case "group":
            assert row.advantage is not None
            its = {*inspect.signature(row.advantage).parameters} & {*options}
            advantage = partial(row.advantage, **{name: options.pop(name) for name in its})
            loss = partial(row.loss, **row.fixed, **options)
            return policy_gradient(loss, advantage, sampling)
        case "greedy":
            greedy = Beside(1, lambda shape, reference: {"temperature": 0.0})
            return _policy_gradient(row, options, sampling, remax, greedy)
        case "token_baseline":
            loss = partial(row.loss, **row.fixed, **options)
            return Method(
                lambda shape, adapt, strength: policy_objective(
                    shape, adapt, loss, sampling=sampling
                ),
                lambda group, ref_logp, log_collision, strength, key: token_baseline(
                    group, log_collision, ref_logp
                ),
                (),
                collides=sampling,
            )
        case "whitened":
            beta = options.pop("beta")
            return _policy_gradient(row, options, sampling, partial(_whitened, beta))
        case "mixture":
            tau, share, count = (options.pop(name) for name in ("tau", "share", "opponents"))
            mixture = Beside(
                count, lambda shape, reference: {"guides": (MixtureGuide(shape, reference, share),)}
            )
            prepare = partial(nash_md, opponents=count, tau=tau)
            return _policy_gradient(row, options, sampling, prepare, mixture)
        case "critic":
            return _actor_critic(options, sampling)
    return _compared(row, options)


def _policy_gradient(
    row: Published, options: Options, sampling: Sampling, prepare: Any, beside: Beside | None = None
) -> Method:
    """A method whose batch is (rewarded group, reference log-probs) -> `PolicyBatch`."""
    loss = partial(row.loss, **row.fixed, **options)
    return Method(
        lambda shape, adapt, strength: policy_objective(shape, adapt, loss, sampling=sampling),
        lambda group, ref_logp, value, strength, key: prepare(group, ref_logp),
        (),
        beside=beside,
    )


def _whitened(beta: float, group: Group, ref_logp: Array) -> PolicyBatch:
    """REINFORCE++: reward to go of tokens less a KL penalty, whitened over the batch."""
    reward = kl_penalised(group.reward, group.logp, ref_logp, group.mask, beta=beta)
    to_go = returns(reward, group.mask, discount=1.0)
    return PolicyBatch(group, whiten(to_go, group.mask), ref_logp)


def _actor_critic(options: Options, sampling: Sampling) -> Method:
    """PPO, its KL penalty in the reward."""
    options = dict(options)
    beta = options.pop("beta")
    return Method(
        lambda shape, adapt, strength: ppo_objective(shape, adapt, sampling=sampling, **options),
        lambda group, ref_logp, value, strength, key: valued(group, value, ref_logp, beta=beta),
        (),
        critic=True,
    )


def _taught(row: Published, options: Options, sampling: Sampling, teacher: DecoderConfig) -> Method:
    """A method whose objective takes the parameters of a teacher, after those of the reference."""
    make: Any = partial(gkd_objective, **options)
    if row.form == "taught":
        make = partial(distil_objective, sampling=sampling, **options)
    return Method(
        lambda shape, adapt, strength: make(shape, adapt, teacher),
        lambda group, ref_logp, value, strength, key: group,
        (),
    )


def _compared(row: Published, options: Options) -> Method:
    """A direct loss of pairs that are made of the policy's own samples."""
    loss = partial(row.loss, **row.fixed, **options)
    prepare = {
        "judged": lambda group, key: sampled_pair(in_twos(group), key),
        "exploring": exploring_pair,
        "self_play": lambda group, key: self_play(group),
    }[row.form]
    return Method(
        lambda shape, adapt, strength: direct_objective(shape, adapt, loss),
        lambda group, ref_logp, value, strength, key: prepare(group, key),
        (),
        beside=Beside(1, by_reference=True) if row.form == "exploring" else None,
        compares=True,
    )


def init_reward(row: Published, key: Array, width: int, categories: int) -> dict[str, PyTree]:
    """What a reward model has beside its decoder before the first update.

    Args:
        row: of the loss.
        key: typed PRNG key.
        width: of the decoder's hidden states.
        categories: of the ratings, where the loss has cutpoints.

    Returns:
        {"head": a scalar head}; also "spread", a head of log-variances at 0, or "cutpoints"
        f32[categories - 1], as `losses.rating.increasing` takes them.
    """
    params: dict[str, PyTree] = {"head": init_scalar_head(key, width)}
    if row.form == "distribution":
        params["spread"] = jax.tree.map(jnp.zeros_like, params["head"])
    if row.form == "cutpoints":
        params["cutpoints"] = jnp.zeros(categories - 1)
    return params


def reward_objective(
    row: Published, options: Options, config: DecoderConfig, adapt: Adapt
) -> Objective:
    """The objective of a reward model: heads on the decoder's last hidden states.

    Args:
        row: of the loss.
        options: its hyper-parameters.
        config: shape of the decoder.
        adapt: how `params["decoder"]` becomes a decoder.

    Returns:
        `(params, batch, key, reference) -> Loss`, with `params` {"decoder": what `adapt` takes}
        and those of `init_reward`; rewards are read from them as
        `train.objectives.preference_rewards` does.
    """
    loss = partial(row.loss, **row.fixed, **options)

    def objective(params: PyTree, batch: Any, key: Array, reference: PyTree) -> Loss:
        one = batch.action.ndim == 2  # a completion a row
        action, mask = (x[:, None] if one else x for x in (batch.action, batch.mask))
        decoder = adapt(params["decoder"], reference)
        if row.form == "regularised":
            hidden, logp = completion_hidden_logp(config, decoder, batch.context, action)
            reward = last_value(apply_scalar_head(params["head"], hidden), mask)
            return loss(reward, logp, batch)
        hidden = completion_hidden(config, decoder, batch.context, action)
        rows = lambda x: x[:, 0] if one else x
        values = apply_scalar_head(params["head"], hidden)
        if row.form == "token":
            return loss(rows(values), batch)
        reward = rows(last_value(values, mask))
        if row.form == "distribution":
            spread = last_value(apply_scalar_head(params["spread"], hidden), mask)
            return loss(reward, rows(spread), batch)
        if row.form == "cutpoints":
            return loss(reward, batch, cutpoints=increasing(params["cutpoints"]))
        return loss(reward, batch)

    return objective
