"""Forms of feedback: what impressions of answers become, and the loss that reads it.

Who reads an answer gets an impression of it: its gold reward and a noise, new with each
reading. All that a person says follows from impressions: which of two answers is better, or
that neither is; the order of four or eight; a mark from 1 to 5; a number; good or bad.

The noise is Gumbel's: comparisons follow Bradley-Terry and rankings Plackett-Luce exactly, so
that what is held against comparisons has no help from the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.losses.link import Link, logistic, probit
from irl_jax.losses.preference import davidson, pairwise, rao_kupper
from irl_jax.losses.ranking import all_pairs, plackett_luce
from irl_jax.losses.rating import binary_cross_entropy, increasing, ordinal, regression
from irl_jax.models.heads import apply_mlp, init_mlp
from irl_jax.rewards.embedding import (
    EmbeddingReward,
    EnsembleConfig,
    fit_members,
    moments,
    standardise,
)
from irl_jax.types import Loss, Preference, PyTree, Ranking, Rating, safe_divide

GROUP = 8  # answers to one prompt that one person reads together
MARKS = 5
FIRST = "pairs, Bradley-Terry"


@dataclass(frozen=True)
class Readings:
    """What people thought of G groups of 8 answers, each group to one prompt.

    Attributes:
        answer: i64[G, 8], number of the answer.
        impression: f64[G, 8], gold reward and noise, in units of gold reward.
        scale: f64[G], of the numbers that the reader of the group gives; 1 on average.
        offset: f64[G], of these numbers, in standard deviations of all impressions.
        person: i64[G], who read the group.
        draw: impressions that differ by less are equal to who may say so.
    """

    answer: np.ndarray
    impression: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    person: np.ndarray
    draw: float

    @property
    def number(self) -> np.ndarray:
        """f64[G, 8], the number that the reader would give: no longer comparable if they differ."""
        return self.scale[:, None] * standard(self.impression) + self.offset[:, None]

    def category(self, categories: int) -> np.ndarray:
        """f64[G, 8], that number on a scale of so many steps, all as frequent on average."""
        edges = np.quantile(standard(self.impression), np.arange(1, categories) / categories)
        return np.digitize(self.number, edges).astype(np.float64)


@dataclass(frozen=True)
class Rows:
    """N judgements of one form.

    Attributes:
        answer: i64[N, K], the answers of each, preferred ones first.
        label: f64[N], what was said beside the order: a mark, or 1 for a tie.
        weight: f64[N], 0 for what does not count.
    """

    answer: np.ndarray
    label: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Form:
    """A form of feedback.

    Attributes:
        rows: what is said, given the readings.
        loss: (rewards f32[B, K], label f32[B], weight f32[B], parameters of the form) -> Loss.
        answers: K, read for a judgement.
        decisions: marks, or comparisons at most that sort the answers, a judgement.
        start: (label f32[N], weight f32[N]) -> parameters of the form, learned with the
            reward: thresholds, at first those that fit if all rewards are equal.
    """

    rows: Callable[[Readings], Rows]
    loss: Callable[[Array, Array, Array, Any], Loss]
    answers: int
    decisions: int = 1
    start: Callable[[Array, Array], PyTree] = lambda label, weight: ()


def standard(x: np.ndarray) -> np.ndarray:
    """x with mean 0 and standard deviation 1."""
    return (x - x.mean()) / x.std()


def _ranked(readings: Readings, answers: int) -> Rows:
    split = lambda x: x.reshape(-1, answers)
    order = np.argsort(-split(readings.impression), axis=1, kind="stable")
    n = len(order)
    return Rows(np.take_along_axis(split(readings.answer), order, 1), np.zeros(n), np.ones(n))


def _tied(readings: Readings) -> np.ndarray:
    return np.abs(np.diff(readings.impression.reshape(-1, 2))[:, 0]) < readings.draw


def _told(readings: Readings) -> Rows:
    return replace(_ranked(readings, 2), label=_tied(readings).astype(np.float64))


def _dropped(readings: Readings) -> Rows:
    return replace(_ranked(readings, 2), weight=1.0 - _tied(readings))


def _tossed(readings: Readings) -> Rows:
    """In a tie the first is chosen: answers are read in random order, so it is a coin."""
    pairs, shown = _ranked(readings, 2), readings.answer.reshape(-1, 2)
    return replace(pairs, answer=np.where(_tied(readings)[:, None], shown, pairs.answer))


def _marked(readings: Readings, mark: Callable[[Readings], np.ndarray]) -> Rows:
    label = mark(readings).ravel()
    return Rows(readings.answer.reshape(-1, 1), label, np.ones(len(label)))


def _own_standard(readings: Readings) -> np.ndarray:
    """Numbers, standardised over what the same person gave."""
    number = readings.number.copy()
    for person in np.unique(readings.person):
        own = readings.person == person
        number[own] = standard(number[own])
    return number


def _pairs(link: Link) -> Callable[[Array, Array, Array, Any], Loss]:
    return lambda reward, label, weight, _: pairwise(
        reward, Preference.without_tokens(weight), link=link
    )


def _ranking(loss: Callable[[Array, Ranking], Loss]) -> Callable[[Array, Array, Array, Any], Loss]:
    def of_rows(reward: Array, label: Array, weight: Array, _: Any) -> Loss:
        count = jnp.full(reward.shape[:1], reward.shape[1])
        absent: Any = None
        return loss(reward, Ranking(absent, absent, absent, count=count, weight=weight))

    return of_rows


def _rating(loss: Callable[..., Loss]) -> Callable[[Array, Array, Array, Any], Loss]:
    """`loss(reward f32[B], ratings, parameters of the form)` of rows of one answer."""

    def of_rows(reward: Array, label: Array, weight: Array, own: Any) -> Loss:
        absent: Any = None
        batch = Rating(absent, absent, absent, score=label, weight=weight)
        return loss(reward[:, 0], batch, own)

    return of_rows


def _share(event: Array, weight: Array) -> Array:
    """Weighted share, kept off 0 and 1, where thresholds would be infinite."""
    return jnp.clip(safe_divide((weight * event).sum(), weight.sum()), 1e-3, 1 - 1e-3)


def _logit(share: Array) -> Array:
    return jnp.log(share) - jnp.log1p(-share)


def _cutpoints(label: Array, weight: Array) -> Array:
    """What `increasing` makes the cutpoints of the marks' shares from."""
    below = jnp.stack([_logit(_share(label < c, weight)) for c in range(1, MARKS)])
    return jnp.concatenate([below[:1], jnp.log(jnp.maximum(jnp.diff(below), 1e-3))])


def _pairs_told(loss: Callable[..., Loss]) -> Callable[[Array, Array, Array, Any], Loss]:
    return lambda reward, label, weight, own: loss(
        reward, Preference.without_tokens(weight), label > 0, own
    )


# At equal rewards a share tanh(η/2) ties under Rao-Kupper, ν / (2 + ν) under Davidson.
FORMS: dict[str, Form] = {
    FIRST: Form(partial(_ranked, answers=2), _pairs(logistic), 2),
    "pairs, Thurstone": Form(partial(_ranked, answers=2), _pairs(probit), 2),
    "ties tossed for": Form(_tossed, _pairs(logistic), 2),
    "ties dropped": Form(_dropped, _pairs(logistic), 2),
    "ties, Rao-Kupper": Form(
        _told,
        _pairs_told(lambda r, b, tie, own: rao_kupper(r, b, tie=tie, threshold=jnp.exp(own))),
        2,
        start=lambda label, weight: jnp.log(2 * jnp.arctanh(_share(label > 0, weight))),
    ),
    "ties, Davidson": Form(
        _told,
        _pairs_told(lambda r, b, tie, own: davidson(r, b, tie=tie, log_nu=own)),
        2,
        start=lambda label, weight: jnp.log(2.0) + _logit(_share(label > 0, weight)),
    ),
    "rankings of 4, Plackett-Luce": Form(
        partial(_ranked, answers=4), _ranking(plackett_luce), 4, decisions=5
    ),
    "rankings of 8, Plackett-Luce": Form(
        partial(_ranked, answers=8), _ranking(plackett_luce), 8, decisions=16
    ),
    "rankings of 8, all pairs": Form(
        partial(_ranked, answers=8), _ranking(all_pairs), 8, decisions=16
    ),
    "good or bad": Form(
        partial(_marked, mark=lambda readings: readings.category(2)),
        _rating(lambda reward, batch, own: binary_cross_entropy(reward + own, batch)),
        1,
        start=lambda label, weight: _logit(_share(label, weight)),
    ),
    "marks of 5, ordinal": Form(
        partial(_marked, mark=lambda readings: readings.category(MARKS)),
        _rating(lambda r, batch, own: ordinal(r, batch, cutpoints=increasing(own))),
        1,
        start=_cutpoints,
    ),
    "marks of 5, regression": Form(
        partial(_marked, mark=lambda readings: standard(readings.category(MARKS))),
        _rating(lambda reward, batch, own: regression(reward, batch)),
        1,
    ),
    "numbers, regression": Form(
        partial(_marked, mark=lambda readings: standard(readings.number)),
        _rating(lambda reward, batch, own: regression(reward, batch)),
        1,
    ),
    "numbers, own standard": Form(
        partial(_marked, mark=_own_standard),
        _rating(lambda reward, batch, own: regression(reward, batch)),
        1,
    ),
}


def first(rows: Rows, count: int) -> Rows:
    """The first `count` judgements in place of all, repeated: the same shape, the same program.

    What is left over after the last whole repetition does not count, so that all that are
    kept count the same.
    """
    n = len(rows.label)
    take = np.arange(n) % count
    whole = np.arange(n) < n // count * count
    return Rows(rows.answer[take], rows.label[take], rows.weight[take] * whole)


@partial(jax.jit, static_argnames=("form", "config"))
def learn(
    features: Array,
    answer: Array,
    label: Array,
    weight: Array,
    keys: Array,
    lr: Array,
    *,
    form: str,
    config: EnsembleConfig,
) -> EmbeddingReward:
    """Reward models of S runs from one form of feedback; every leaf has a leading axis S.

    They start as 0 everywhere, where the form's thresholds fit: what is random in a last
    layer would stay in the reward, as short as this training is.

    Args:
        features: f32[R, F], of all answers.
        answer: i64[S, N, K], as in `Rows`.
        label: f32[S, N].
        weight: f32[S, N].
        keys: typed PRNG keys [S].
        lr: f32[], peak learning rate.
        form: of `FORMS`.
        config: of the ensembles; `batch_size` is in answers read, `lr` is not.
    """
    kind = FORMS[form]
    batch = max(1, config.batch_size // kind.answers)
    sized = replace(config, batch_size=batch, lr=lr)  # type: ignore[arg-type]

    def one(answer: Array, label: Array, weight: Array, key: Array) -> EmbeddingReward:
        mean, scale = moments(features[answer], weight)
        x = standardise(features, mean, scale)

        def init(key: Array) -> PyTree:
            reward = init_mlp(key, features.shape[1], config.widths)
            last = f"layer_{len(config.widths)}"
            reward[last] = jax.tree.map(jnp.zeros_like, reward[last])
            return {"reward": reward, "form": kind.start(label, weight)}

        def objective(params: PyTree, rows: tuple[Array, Array, Array]) -> Loss:
            answer, label, weight = rows
            return kind.loss(apply_mlp(params["reward"], x[answer]), label, weight, params["form"])

        params, _ = fit_members(init, objective, (answer, label, weight), key, config=sized)
        return EmbeddingReward(params["reward"], mean, scale)

    return jax.vmap(one)(answer, label, weight, keys)
