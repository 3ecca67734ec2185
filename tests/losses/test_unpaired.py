import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.unpaired import (
    bco,
    bco_pair,
    each_side,
    kto,
    mismatched_kl,
    reward_shift,
)
from irl_jax.types import Rating
from tests.losses.test_direct import BATCH, LOGP, MASK, REF

RATINGS = Rating(
    None, None, mask=MASK[:, 0], score=jnp.array([1.0, 0.0]), weight=jnp.array([1.0, 3.0])
)


def test_kto_at_the_reference_is_half_of_the_weights():
    loss = kto(LOGP[:, 0], LOGP[:, 0], RATINGS, beta=0.3, kl=0.0, good=1.2, bad=0.8)
    assert loss.mean == pytest.approx((1.2 + 3 * 0.8) / 4 / 2, rel=1e-6)


def test_a_divergence_makes_good_look_like_losses_and_bad_like_gains():
    value = lambda kl, score: (
        kto(
            LOGP[:, 0],
            LOGP[:, 0],
            RATINGS.replace(score=jnp.full(2, score)),
            beta=1.0,
            kl=kl,
            good=1.0,
            bad=1.0,
        ).mean
    )
    assert value(2.0, 1.0) == pytest.approx(1 / (1 + np.exp(-2.0)), rel=1e-5)
    assert value(2.0, 0.0) == pytest.approx(1 / (1 + np.exp(2.0)), rel=1e-5)


def test_the_baseline_has_no_gradient():
    slope = jax.grad(
        lambda kl: kto(LOGP[:, 0], REF[:, 0], RATINGS, beta=1.0, kl=kl, good=1.0, bad=1.0).total
    )
    assert slope(0.4) == 0


def test_the_divergence_is_a_mean_and_never_negative():
    logp, ref = jnp.zeros([3, 2]), jnp.array([[-1.0, -1.0], [-3.0, jnp.nan], [-9.0, -9.0]])
    mask = jnp.array([[True, True], [True, False], [True, True]])
    weight = jnp.array([1.0, 1.0, 0.0])
    assert mismatched_kl(logp, ref, mask, weight) == pytest.approx(2.5)
    assert mismatched_kl(ref, logp, mask, weight) == 0
    assert mismatched_kl(logp, ref, mask, 0 * weight) == 0
    assert not np.any(jax.grad(mismatched_kl)(logp, ref, mask, weight))


def test_bco_at_its_shift_is_log_two():
    loss = bco(LOGP[:, 0], LOGP[:, 0], RATINGS, beta=0.3, delta=0.0)
    assert loss.mean == pytest.approx(np.log(2), rel=1e-6)


def test_the_shift_is_half_way_between_good_and_bad():
    """By hand: good rewards 1 (twice) and 4, a bad one of -2; a row of weight 0 is NaN."""
    ratio = jnp.array([1.0, 4.0, -2.0, jnp.nan])[:, None] / 0.5
    batch = Rating(None, None, jnp.ones([4, 1], bool), jnp.array([1.0, 1.0, 0.0, 1.0]),
                   jnp.array([2.0, 1.0, 1.0, 0.0]))  # fmt: skip
    shift = lambda x: reward_shift(x, jnp.zeros([4, 1]), batch, beta=0.5)
    assert shift(ratio) == pytest.approx(0.5 * (2.0 - 2.0))
    assert shift(ratio + 6.0) == pytest.approx(3.0)
    assert not np.any(jax.grad(shift)(ratio))
    loss = lambda x: bco(x, jnp.zeros([4, 1]), batch, beta=0.5).mean
    assert loss(ratio + 6.0) == pytest.approx(float(loss(ratio)), rel=1e-5)
    by_hand = (2 * np.log1p(np.exp(-1)) + np.log1p(np.exp(-4)) + np.log1p(np.exp(-2))) / 4
    assert loss(ratio) == pytest.approx(by_hand, rel=1e-5)
    pairs = bco_pair(LOGP, REF, BATCH, beta=0.3)
    further = bco_pair(LOGP + 0.0, REF - MASK / MASK.sum(-1, keepdims=True), BATCH, beta=0.3)
    assert further.mean == pytest.approx(float(pairs.mean), rel=1e-5)


def test_pairs_are_read_as_good_and_bad():
    batch = BATCH.replace(weight=jnp.array([2.0, 0.5]))
    loss = each_side(kto)(LOGP, REF, batch, beta=0.3, kl=0.1, good=1.5, bad=0.5)
    flat = Rating(
        None,
        None,
        mask=jnp.concatenate([MASK[:, 0], MASK[:, 1]]),
        score=jnp.array([1.0, 1.0, 0.0, 0.0]),
        weight=jnp.array([2.0, 0.5, 2.0, 0.5]),
    )
    join = lambda x: jnp.concatenate([x[:, 0], x[:, 1]])
    expected = kto(join(LOGP), join(REF), flat, beta=0.3, kl=0.1, good=1.5, bad=0.5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), loss, expected)


def test_bco_of_pairs_is_half_of_the_paper_s_two_terms():
    """By hand: rewards (1, -2) and (4, 0), whose half-way point is ¾."""
    ratio = jnp.array([[1.0, -2.0], [4.0, 0.0]])[..., None] / 0.5
    mask = jnp.ones([2, 2, 1], bool)
    pairs = BATCH.replace(action=None, mask=mask, margin=jnp.zeros(2), weight=jnp.ones(2))
    loss = bco_pair(ratio, jnp.zeros_like(ratio), pairs, beta=0.5)
    costs = [np.log1p(np.exp(-z)) for z in (1 - 0.75, 0.75 + 2, 4 - 0.75, 0.75 - 0)]
    assert loss.mean == pytest.approx(np.mean(costs), rel=1e-5)
