"""A published loss as a method: which objective it is under a decoder, and its batch.

`irl_jax.losses.table` says what a loss is; here its form becomes a
`irl_jax.train.methods.Method`, which the offline and the online loop run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.advantages import whiten
from irl_jax.dynamics.returns import returns
from irl_jax.dynamics.shaping import kl_penalised
from irl_jax.losses.table import Published
from irl_jax.rollout.guide import MixtureGuide
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.methods import (
    Beside,
    Method,
    actor_critic,
    compared,
    nash_md,
    offline,
    online,
    remax,
)
from irl_jax.train.objectives import (
    Extended,
    PolicyBatch,
    direct_objective,
    mismatched_objective,
    policy_objective,
    reference_free_objective,
    sft_objective,
    tdpo_objective,
    wpo_objective,
)
from irl_jax.train.prepare import exploring_pair, self_play
from irl_jax.types import Group, Loss

Options = Mapping[str, Any]
NO_PULL = (0.0,)  # the one strength: a published loss has its own hyper-parameters


def as_method(row: Published, options: Options, *, sampling: Sampling) -> Method:
    """The method of a loss of policies.

    Args:
        row: of `irl_jax.losses.table`.
        options: its hyper-parameters by name.
        sampling: how completions are drawn, for losses of samples.
    """
    return FORMS[row.form](row, {**row.fixed, **options}, sampling)


def _offline(objective: Callable[..., Any]) -> Callable[[Published, Options, Sampling], Method]:
    return lambda row, options, sampling: offline(
        objective, lambda _: partial(row.loss, **options), NO_PULL
    )


def _whole(objective: Callable[..., Any]) -> Callable[[Published, Options, Sampling], Method]:
    """Of an objective that is made of a shape, `adapt` and hyper-parameters alone."""
    return lambda row, options, sampling: Method(
        lambda shape, adapt, _: objective(shape, adapt, **options), None, NO_PULL
    )


def _group(row: Published, options: Options, sampling: Sampling) -> Method:
    assert row.advantage is not None
    return online(lambda _: partial(row.loss, **options), row.advantage, NO_PULL, sampling)


def _whitened(row: Published, options: Options, sampling: Sampling) -> Method:
    """Advantages of tokens: the return of rewards with a KL penalty, whitened over the batch."""
    beta, rest = options["beta"], {k: v for k, v in options.items() if k != "beta"}

    def prepare(group: Group, ref_logp: Array, value: Any, strength: Any, key: Array) -> Any:
        mask = group.mask
        reward = kl_penalised(group.reward, group.logp, ref_logp, mask, beta=beta)
        return PolicyBatch(group, whiten(returns(reward, mask, discount=1.0), mask), ref_logp)

    objective = lambda shape, adapt, _: policy_objective(
        shape, adapt, partial(row.loss, **rest), sampling=sampling
    )
    return Method(objective, prepare, NO_PULL)


def _critic(row: Published, options: Options, sampling: Sampling) -> Method:
    rest = {k: v for k, v in options.items() if k != "beta"}
    return actor_critic((options["beta"],), sampling=sampling, **rest)


def _greedy(row: Published, options: Options, sampling: Sampling) -> Method:
    return remax((options["beta"],), sampling)


def _mixture(row: Published, options: Options, sampling: Sampling) -> Method:
    return nash_md(
        (options["tau"],),
        share=options["share"],
        opponents=options["opponents"],
        sampling=sampling,
    )


def _judged(row: Published, options: Options, sampling: Sampling) -> Method:
    return compared(lambda _: partial(row.loss, **options), NO_PULL)


def _exploring(row: Published, options: Options, sampling: Sampling) -> Method:
    """Of each prompt one completion of the policy and one of the reference."""

    def prepare(group: Group, ref_logp: Array, value: Any, strength: Any, key: Array) -> Any:
        return exploring_pair(group, key)

    objective = lambda shape, adapt, _: direct_objective(shape, adapt, partial(row.loss, **options))
    of_reference = lambda shape, reference: {"guides": (MixtureGuide(shape, reference, 1.0),)}
    return Method(objective, prepare, NO_PULL, beside=Beside(1, of_reference))


def _self_play(row: Published, options: Options, sampling: Sampling) -> Method:
    """The reference is the policy that wrote the group."""

    def prepare(group: Group, ref_logp: Array, value: Any, strength: Any, key: Array) -> Extended:
        batch = self_play(group)
        sides = jnp.stack([group.reward.argmax(1), group.reward.argmin(1)], axis=1)
        behaviour = jnp.take_along_axis(group.logp, sides[..., None], axis=1)
        return Extended(batch.batch, {**batch.keywords, "behaviour": behaviour})

    def loss(logp: Array, ref_logp: Array, batch: Any, *, win: Array, behaviour: Array) -> Loss:
        return row.loss(logp, behaviour, batch, win=win, **options)

    objective = lambda shape, adapt, _: direct_objective(shape, adapt, loss)
    return Method(objective, prepare, NO_PULL)


def _likelihood(row: Published, options: Options, sampling: Sampling) -> Method:
    return Method(lambda shape, adapt, _: sft_objective(shape, adapt), None, NO_PULL)


FORMS: dict[str, Callable[[Published, Options, Sampling], Method]] = {
    "likelihood": _likelihood,
    "reference": _offline(direct_objective),
    "reference_free": _offline(reference_free_objective),
    "mismatched_kl": _offline(mismatched_objective),
    "token_kl": _whole(tdpo_objective),
    "on_policy_weight": _whole(wpo_objective),
    "group": _group,
    "whitened": _whitened,
    "critic": _critic,
    "greedy": _greedy,
    "mixture": _mixture,
    "judged": _judged,
    "exploring": _exploring,
    "self_play": _self_play,
}
