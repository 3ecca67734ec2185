"""A softmax bandit whose pairs are a Bradley-Terry annotator's: known optima are reached.

All objectives are trained side by side in one jitted loop, each on its own logits, from the
same reference; the expected optimum of each is computed without its loss.
"""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from irl_jax.losses.direct import dpo, ipo
from irl_jax.losses.direct_variants import dpop, r_dpo, tdpo
from irl_jax.losses.link import logistic, probit, unbiased
from irl_jax.losses.listwise import listwise_alignment
from irl_jax.losses.reference_free import simpo
from irl_jax.losses.scores import (
    alpha_tilt,
    f_divergence_score,
    jensen_shannon_tilt,
    ld_dpo_score,
    log_ratio,
)
from irl_jax.losses.unpaired import bco
from irl_jax.types import Preference, Ranking, Rating

N, T, BETA, ALPHA, FLIP = 4, 3, 0.8, 0.25, 0.2
REWARD = np.array([0.6, -0.7, 0.9, 0.1])
REF = np.log(np.array([0.1, 0.4, 0.2, 0.3]))
LENGTH = np.array([1, 3, 2, 1])
sigmoid = lambda x: 1 / (1 + np.exp(-x))
WIN = sigmoid(REWARD[:, None] - REWARD)  # P(i ≻ j)

ORDERED = np.array(list(itertools.permutations(range(N), 2)))
TRIPLES = np.array(list(itertools.permutations(range(N), 3)))


def spread(logp, action):
    """The log-prob of an action on the tokens of a completion of its length, f[..., T]."""
    tokens = jnp.arange(T) < LENGTH[action][..., None]
    return jnp.where(tokens, (logp[action] / LENGTH[action])[..., None], 0.0), tokens


def pairs(weight):
    mask = np.arange(T) < LENGTH[ORDERED][..., None]
    return Preference(None, None, mask, np.zeros(len(ORDERED)), np.asarray(weight))


def by_pairs(loss, weight=WIN[ORDERED[:, 0], ORDERED[:, 1]]):
    """logits -> total of a loss of all pairs, weighted by how often each is labelled so."""

    def total(logp):
        return loss(spread(logp, ORDERED)[0], spread(jnp.asarray(REF), ORDERED)[0], pairs(weight))

    return lambda logits: total(jax.nn.log_softmax(logits)).mean


def by_rankings(logits):
    logp = jax.nn.log_softmax(logits)
    odds = np.exp(REWARD[TRIPLES])
    chance = odds[:, 0] / odds.sum(-1) * odds[:, 1] / odds[:, 1:].sum(-1)
    own, mask = spread(logp, TRIPLES)
    batch = Ranking(None, None, mask, np.full(len(TRIPLES), 3), chance)
    return listwise_alignment(own, spread(jnp.asarray(REF), TRIPLES)[0], batch, beta=BETA).mean


def by_ratings(logits):
    """Every action, good with probability σ(r); δ is where the optimum is normalised."""
    logp, action = jax.nn.log_softmax(logits), np.arange(N)
    own, mask = spread(logp, action)
    batch = Rating(None, None, mask, sigmoid(REWARD), np.ones(N))
    delta = -BETA * np.log(np.exp(REF + REWARD / BETA).sum())
    return bco(own, spread(jnp.asarray(REF), action)[0], batch, beta=BETA, delta=delta).mean


def normal(x):
    return np.exp(x) / np.exp(x).sum()


def divergence_optimum(inverse, supremum):
    """π = π_ref (f')⁻¹((r − λ) / β), λ by bisection; supremum of f', which nothing reaches."""
    low, high = REWARD.max() - BETA * supremum, 20.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        total = (np.exp(REF) * inverse((REWARD - middle) / BETA)).sum()
        low, high = (middle, high) if total > 1 else (low, middle)
    return np.exp(REF) * inverse((REWARD - middle) / BETA)


PLAIN = normal(REF + REWARD / BETA)
FLIPPED = (1 - FLIP) * WIN + FLIP * WIN.T
THURSTONE = 0.5 * np.vectorize(math.erfc)(-(REWARD[:, None] - REWARD) / math.sqrt(2))
f_dpo = lambda tilt: by_pairs(partial(dpo, beta=BETA, score=f_divergence_score(tilt, log_ratio)))
NO_KL = lambda logp, ref_logp, batch: tdpo(
    logp, jnp.zeros_like(logp), ref_logp, batch, beta=BETA, alpha=0.5
)
OBJECTIVES = {  # name -> (logits -> loss, optimum)
    "dpo": (by_pairs(partial(dpo, beta=BETA)), PLAIN),
    "robust dpo on flipped labels": (
        by_pairs(
            partial(dpo, beta=BETA, link=unbiased(logistic, FLIP)),
            FLIPPED[ORDERED[:, 0], ORDERED[:, 1]],
        ),
        PLAIN,
    ),
    "dpo by a Thurstone annotator": (
        by_pairs(partial(dpo, beta=BETA, link=probit), THURSTONE[ORDERED[:, 0], ORDERED[:, 1]]),
        PLAIN,
    ),
    # Azar et al. 2023, eq. 8: the mean preference against all, ties included
    "ipo": (by_pairs(partial(ipo, tau=BETA)), normal(REF + WIN.mean(1) / BETA)),
    "r_dpo": (
        by_pairs(partial(r_dpo, beta=BETA, alpha=ALPHA)),
        normal(REF + (REWARD - ALPHA * LENGTH) / BETA),
    ),
    "f-dpo forward KL": (f_dpo(alpha_tilt(1.0)), divergence_optimum(lambda y: 1 / (1 - y), 1)),
    "f-dpo alpha 0.5": (f_dpo(alpha_tilt(0.5)), divergence_optimum(lambda y: (1 - y / 2) ** -2, 2)),
    # log(2u / (1 + u)) = y
    "f-dpo Jensen-Shannon": (
        f_dpo(jensen_shannon_tilt),
        divergence_optimum(lambda y: 1 / (2 * np.exp(-y) - 1), np.log(2)),
    ),
    "f-dpo reverse KL": (f_dpo(alpha_tilt(0.0)), PLAIN),
    "ld-dpo at alpha 1": (by_pairs(partial(dpo, beta=BETA, score=ld_dpo_score(1.0))), PLAIN),
    "dpop at lambda 0": (by_pairs(partial(dpop, beta=BETA, lam=0.0)), PLAIN),
    "tdpo without divergence": (by_pairs(NO_KL), PLAIN),
    "plackett-luce": (by_rankings, PLAIN),
    "bco": (by_ratings, PLAIN),
    # β/|y| log π = r + const
    "simpo": (
        by_pairs(lambda logp, ref, batch: simpo(logp, batch, beta=BETA, gamma=0.0)),
        None,
    ),
}


@pytest.fixture(scope="module")
def trained():
    """name -> π after training, all in one loop."""
    losses = {name: loss for name, (loss, _) in OBJECTIVES.items()}
    steps = 1500
    tx = optax.adam(optax.cosine_decay_schedule(0.1, steps))

    @jax.jit
    def train(logits):
        def step(carry, _):
            params, state = carry
            total = lambda p: sum(loss(p[name]) for name, loss in losses.items())
            updates, state = tx.update(jax.grad(total)(params), state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (logits, tx.init(logits)), None, length=steps)[0][0]

    with jax.enable_x64(True):
        return jax.tree.map(jax.nn.softmax, train({name: jnp.asarray(REF) for name in losses}))


@pytest.mark.parametrize("name", [name for name, (_, pi) in OBJECTIVES.items() if pi is not None])
def test_the_optimum_is_reached(trained, name):
    optimum = OBJECTIVES[name][1]
    np.testing.assert_allclose(optimum.sum(), 1.0, rtol=1e-9)
    assert np.abs(np.exp(REF) - optimum).max() > 0.05  # there was something to learn
    np.testing.assert_allclose(trained[name], optimum, atol=1e-5)


def test_simpo_without_a_margin_orders_tokens_by_reward(trained):
    """β/|y| log π(y) = r(y) + const, the constant such that π sums to 1."""
    implied = BETA * np.log(trained["simpo"]) / LENGTH
    np.testing.assert_allclose(implied - implied[0], REWARD - REWARD[0], atol=1e-4)
