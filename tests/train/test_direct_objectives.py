"""Direct alignment of a decoder: which log-probs reach the loss, by the plain path."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.direct_variants import on_policy_weight, tdpo, wpo, xpo
from irl_jax.losses.reference_free import simpo
from irl_jax.losses.unpaired import bco, each_side, kto
from irl_jax.models.decoder import forward, logits
from irl_jax.models.logprob import completion_logp
from irl_jax.train.objectives import (
    Extended,
    direct_objective,
    full,
    mismatched_objective,
    reference_free_objective,
    tdpo_objective,
    wpo_objective,
)
from irl_jax.types import Preference, Rating
from tests.models.cases import CONFIG, completions, context, random_params

B, T = 3, 4
POLICY, REFERENCE = random_params(CONFIG, 1), random_params(CONFIG)
ACTION, MASK = completions()
PAIRS = Preference(context(), ACTION, MASK, jnp.zeros(B), jnp.array([1.0, 0.5, 2.0]))
RATINGS = Rating(PAIRS.context, ACTION[:, 0], MASK[:, 0], jnp.array([1.0, 0.0, 1.0]), PAIRS.weight)
EXPLORE = jnp.array([[True, False], [False, True], [False, True]])
XPO = partial(xpo, beta=0.5, alpha=0.2)
KTO = partial(kto, beta=0.5, good=1.0, bad=1.3)
OBJECTIVES = {
    "rating": (direct_objective(CONFIG, full, partial(bco, beta=0.5, delta=0.1)), RATINGS),
    "free": (reference_free_objective(CONFIG, full, partial(simpo, beta=2.0, gamma=0.3)), PAIRS),
    "kto": (mismatched_objective(CONFIG, full, KTO), RATINGS),
    "kto of pairs": (mismatched_objective(CONFIG, full, each_side(KTO)), PAIRS),
    "tdpo": (tdpo_objective(CONFIG, full, beta=0.5, alpha=0.7), PAIRS),
    "xpo": (direct_objective(CONFIG, full, XPO), Extended(PAIRS, {"explore": EXPLORE})),
    "wpo": (wpo_objective(CONFIG, full, beta=0.5), PAIRS),
}


@pytest.fixture(scope="module")
def losses():
    """name -> Loss, all in one jit, and whether each has a gradient."""

    def one(name, params):
        objective, batch = OBJECTIVES[name]
        return objective(params, batch, None, REFERENCE)

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def gradient(params):
        found = {name: one(name, params) for name in OBJECTIVES}
        return sum(loss.total for loss in found.values()), found

    slope, found = gradient(POLICY)
    return found, slope


@pytest.fixture(scope="module")
def tables():
    """log π and log π_ref before each token of every completion, f[B, 2, T, V]."""

    @jax.jit
    def table(params, prompt, action):
        tokens = jnp.concatenate([prompt.tokens, action], 1)
        mask = jnp.concatenate([prompt.mask, jnp.ones_like(action, bool)], 1)
        hidden, _ = forward(CONFIG, params, tokens, mask=mask)
        at = prompt.tokens.shape[1] - 1
        return jax.nn.log_softmax(logits(CONFIG, params, hidden[:, at : at + T]))

    return [
        jnp.stack([table(params, PAIRS.context, ACTION[:, k]) for k in range(2)], 1)
        for params in (POLICY, REFERENCE)
    ]


def at_tokens(table):
    return jnp.take_along_axis(table, jnp.asarray(ACTION)[..., None], -1)[..., 0]


def near(loss, expected):
    assert loss.mean == pytest.approx(float(expected.mean), rel=2e-4)
    for name, (value, weight) in expected.metrics.items():
        np.testing.assert_allclose(
            loss.metrics[name][0] / weight, value / weight, rtol=1e-3, atol=1e-4
        )


def test_ratings_and_losses_without_a_reference(losses, tables):
    logp, ref_logp = map(at_tokens, tables)
    near(losses[0]["rating"], bco(logp[:, 0], ref_logp[:, 0], RATINGS, beta=0.5, delta=0.1))
    near(losses[0]["free"], simpo(logp, PAIRS, beta=2.0, gamma=0.3))


def test_a_batch_brings_what_its_loss_takes_by_keyword(losses, tables):
    near(losses[0]["xpo"], XPO(*map(at_tokens, tables), PAIRS, explore=EXPLORE))


def test_the_divergence_of_kto_is_that_of_the_neighbours_completions(losses, tables):
    """Row i's prompt with row i − 1's completions, both sides of a pair."""
    moved = np.roll(ACTION, 1, 0)
    score = jax.jit(completion_logp, static_argnums=0)
    own, ref = (score(CONFIG, p, PAIRS.context, moved) for p in (POLICY, REFERENCE))
    ratio = np.where(np.roll(MASK, 1, 0), own - ref, 0.0).sum(-1)
    logp, ref_logp = map(at_tokens, tables)
    kl = max(0.0, ratio[:, 0].mean())
    near(losses[0]["kto"], KTO(logp[:, 0], ref_logp[:, 0], RATINGS, kl=kl))
    kl = max(0.0, ratio.mean())
    near(losses[0]["kto of pairs"], each_side(KTO)(logp, ref_logp, PAIRS, kl=kl))


def test_divergences_and_collisions_are_sums_over_the_vocabulary(losses, tables):
    own, ref = tables
    logp, ref_logp = map(at_tokens, tables)
    kl = (jnp.exp(ref) * (ref - own)).sum(-1)
    near(losses[0]["tdpo"], tdpo(logp, kl, ref_logp, PAIRS, beta=0.5, alpha=0.7))
    share = on_policy_weight(logp, jnp.log((jnp.exp(own) ** 2).sum(-1)), MASK)
    near(losses[0]["wpo"], wpo(logp, ref_logp, PAIRS, share=share, beta=0.5))


def test_the_policy_has_a_gradient(losses):
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(losses[1]))
    assert any(np.any(x) for x in jax.tree.leaves(losses[1]))
