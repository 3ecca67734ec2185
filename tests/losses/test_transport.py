import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.link import logistic
from irl_jax.losses.transport import aot, aot_unpaired, transport_cost
from irl_jax.types import InputError, Rating
from tests.losses.test_direct import BATCH, LOGP, MASK, REF

square = lambda z: z**2


def by_hand(x, x_weight, y, y_weight, steps=20_000):
    """∫ (Qx - Qy)² du on a fine grid."""

    def quantile(values, weights):
        order = np.argsort(values)
        share = np.cumsum(weights[order]) / weights.sum()
        u = (np.arange(steps) + 0.5) / steps
        return values[order][np.searchsorted(share, u)]

    return np.mean((quantile(x, x_weight) - quantile(y, y_weight)) ** 2)


def test_quantiles_of_samples_of_unequal_weights_and_sizes():
    rng = np.random.default_rng(0)
    for n, m in ((5, 5), (3, 7)):
        x, y = rng.standard_normal(n), rng.standard_normal(m)
        wx, wy = rng.uniform(0.5, 2.0, n), rng.uniform(0.5, 2.0, m)
        arrays = [jnp.asarray(a, jnp.float32) for a in (x, wx, y, wy)]
        np.testing.assert_allclose(
            transport_cost(*arrays, square), by_hand(x, wx, y, wy), rtol=1e-2, atol=1e-4
        )


def test_what_does_not_count_may_be_anything():
    x, y = jnp.array([1.0, 3.0, jnp.nan]), jnp.array([jnp.inf, 0.0, 2.0])
    wx, wy = jnp.array([1.0, 1.0, 0.0]), jnp.array([0.0, 1.0, 1.0])
    value, slope = jax.value_and_grad(lambda x: transport_cost(x, wx, y, wy, square))(x)
    assert value == 1.0
    np.testing.assert_allclose(slope, [1.0, 1.0, 0.0], rtol=1e-6)
    assert transport_cost(x, 0 * wx, y, wy, square) == 0


def test_what_does_not_count_stays_out_where_shares_do_not_add_up_to_one():
    """In float32 the shares of 700 weights end a little above or below 1."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x, y, wx, wy = np.float32(rng.uniform(size=(4, 700)))
        spoilt = [np.append(a, b) for a, b in ((x, np.nan), (wx, 0), (y, np.inf), (wy, 0))]
        arrays = [jnp.asarray(a, jnp.float32) for a in spoilt]
        np.testing.assert_allclose(
            transport_cost(*arrays, square), by_hand(x, wx, y, wy), rtol=1e-2, atol=1e-4
        )


def test_at_the_reference_it_is_log_two():
    assert aot(LOGP, LOGP, BATCH, beta=0.3).mean == pytest.approx(np.log(2), rel=1e-6)


def test_paired_margins_are_matched_by_rank_and_not_by_row():
    """The policy has the reference's margins, on other rows: no quantile is ahead."""
    mask = jnp.ones_like(MASK)
    batch = BATCH.replace(mask=mask)
    loss = aot(REF[::-1], REF, batch, beta=0.3)
    assert loss.mean == pytest.approx(np.log(2), rel=1e-6)


def test_one_row_is_the_pairwise_loss():
    from irl_jax.losses.direct import dpo

    one = jax.tree.map(lambda x: x[:1], BATCH)
    got = aot(LOGP[:1], REF[:1], one, beta=0.3)
    expected = dpo(LOGP[:1], REF[:1], one, beta=0.3)
    assert got.mean == pytest.approx(float(expected.mean), rel=1e-6)
    assert got.metrics["reward_margin"][0] == pytest.approx(
        float(expected.metrics["reward_margin"][0]), rel=1e-5
    )


def test_gradient_is_that_of_the_sorted_losses():
    reward = jnp.array([0.3, -1.0, 0.8, 0.1])
    batch = Rating(None, None, jnp.ones([4, 1], bool), jnp.array([1.0, 0.0, 1.0, 0.0]), jnp.ones(4))
    total = lambda x: aot_unpaired(x[:, None], jnp.zeros([4, 1]), batch, beta=2.0).mean
    slope = jax.vmap(jax.grad(logistic))(2 * jnp.array([0.3 + 1.0, 0.8 - 0.1]))
    expected = jnp.stack([slope[0], -slope[0], slope[1], -slope[1]])
    np.testing.assert_allclose(jax.grad(total)(reward), expected, rtol=1e-5)


def test_all_good_is_no_loss():
    batch = Rating(None, None, MASK[:, 0], jnp.ones(2), jnp.ones(2))
    loss, slope = jax.value_and_grad(lambda x: aot_unpaired(x, REF[:, 0], batch, beta=1.0).total)(
        LOGP[:, 0]
    )
    assert loss == 0 and not np.any(slope)


@pytest.mark.parametrize(
    ("loss", "batch", "side"), [(aot, BATCH, slice(None)), (aot_unpaired, None, 0)]
)
def test_wrong_input_is_named(loss, batch, side):
    batch = batch or Rating(None, None, MASK[:, 0], jnp.ones(2), jnp.ones(2))
    with pytest.raises(InputError, match=r"^beta: "):
        loss(LOGP[:, side], REF[:, side], batch, beta=0.0)
    with pytest.raises(InputError, match=r"^ref_logp: expected shape"):
        loss(LOGP[:, side], REF[:1, side], batch, beta=1.0)
    with pytest.raises(InputError, match=r"^batch.weight: expected shape"):
        loss(LOGP[:, side], REF[:, side], batch.replace(weight=jnp.ones([2, 1])), beta=1.0)
