import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.direct import dpo, log_ratio
from irl_jax.losses.link import logistic, smooth, smoothed_zero_one
from irl_jax.losses.preference import bradley_terry
from irl_jax.types import InputError, Preference

RNG = np.random.default_rng(0)
MASK = jnp.arange(3) < jnp.array([[3, 1], [2, 3]])[..., None]
BATCH = Preference(
    None,
    action=jnp.zeros([2, 2, 3], jnp.int32),
    mask=MASK,
    margin=jnp.zeros(2),
    weight=jnp.ones(2),
)
LOGP, REF = (jnp.asarray(-RNG.random([2, 2, 3]), jnp.float32) for _ in range(2))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2, 0.5])
def test_at_the_reference_it_is_log_two(label_smoothing):
    loss = dpo(LOGP, LOGP, BATCH, beta=0.1, link=smooth(logistic, label_smoothing))
    assert loss.mean == pytest.approx(np.log(2), rel=1e-6)
    assert loss.metrics["reward_margin"][0] == 0
    assert loss.metrics["accuracy"][0] == 1.0  # two ties


def test_gradient_at_the_reference_is_half_of_beta_on_every_token():
    gradient = jax.grad(lambda x: dpo(x, LOGP, BATCH, beta=0.3).total)(LOGP)
    sign = jnp.array([-1.0, 1.0])[None, :, None]
    np.testing.assert_allclose(gradient, jnp.where(MASK, sign * 0.15, 0.0), rtol=1e-6)


def test_margin_at_the_reference_is_softplus():
    batch = BATCH.replace(margin=jnp.array([0.0, 2.0]))
    loss = dpo(LOGP, LOGP, batch, beta=0.1)
    np.testing.assert_allclose(loss.total, np.log(2) + np.log1p(np.exp(2.0)), rtol=1e-6)


def test_is_bradley_terry_on_the_implicit_reward():
    reward = 0.7 * log_ratio(LOGP, REF, MASK)
    batch = BATCH.replace(margin=jnp.array([0.3, -0.1]), weight=jnp.array([2.0, 0.5]))
    loss = dpo(LOGP, REF, batch, beta=0.7, link=smooth(logistic, 0.1))
    expected = bradley_terry(reward, batch, label_smoothing=0.1)
    np.testing.assert_allclose(loss.total, expected.total, rtol=1e-6)


def test_smoothing_of_one_half_does_not_see_the_label():
    swap = lambda x: x[:, ::-1]
    blind = partial(dpo, beta=0.7, link=smooth(logistic, 0.5))
    loss = blind(LOGP, REF, BATCH)
    swapped = blind(swap(LOGP), swap(REF), BATCH.replace(mask=swap(MASK)))
    np.testing.assert_allclose(loss.total, swapped.total, rtol=1e-6)


def test_the_optimum_is_the_reference_tilted_by_the_reward():
    """Pairs of a Bradley-Terry annotator have their optimum at π ∝ π_ref exp(r/β)."""
    beta = 0.5
    reward = jnp.array([0.5, -1.0, 2.0, 0.1])
    reference = jax.nn.log_softmax(jnp.array([0.0, 1.0, -0.5, 0.3]))
    ordered = jnp.array(list(itertools.permutations(range(4), 2)))
    n = len(ordered)
    batch = Preference(
        None,
        action=ordered[..., None],
        mask=jnp.ones([n, 2, 1], bool),
        margin=jnp.zeros(n),
        weight=jax.nn.sigmoid(reward[ordered[:, 0]] - reward[ordered[:, 1]]),
    )

    def total(logits):
        logp = jax.nn.log_softmax(logits)[batch.action]
        return dpo(logp, reference[batch.action], batch, beta=beta).total

    np.testing.assert_allclose(jax.grad(total)(reference + reward / beta), 0, atol=1e-6)
    assert np.abs(jax.grad(total)(reference + reward)).max() > 0.05


def test_long_sums_of_small_differences_are_exact():
    """Log-probs of 4,096 tokens sum to -8e3, their ratio to 0.4096."""
    logp = np.full([1, 4096], -2.0, np.float32)
    ratio = log_ratio(logp + np.float32(1e-4), logp, np.ones([1, 4096], bool))
    np.testing.assert_allclose(ratio, 4096 * 1e-4, rtol=5e-3)


@pytest.mark.parametrize("shape", [(2, 1), (2, 2), (1,)])
def test_a_margin_never_broadcasts(shape):
    with pytest.raises(InputError, match=r"^batch.margin: expected shape \[2\], got"):
        dpo(LOGP, REF, BATCH.replace(margin=jnp.zeros(shape)), beta=0.1)


def test_sides_are_two():
    with pytest.raises(InputError, match=r"^logp: expected shape \[_, 2, _\], got \[2, 3, 3\]"):
        dpo(jnp.zeros([2, 3, 3]), REF, BATCH, beta=0.1)


@pytest.mark.parametrize("beta", [0, -0.1, float("nan"), None])
def test_beta_must_be_positive(beta):
    with pytest.raises(InputError, match=r"^beta: expected a number in"):
        dpo(LOGP, REF, BATCH, beta=beta)


@pytest.mark.parametrize("link", [logistic, smoothed_zero_one])
def test_spin_rests_where_the_opponent_writes_like_people(link):
    """The expected gradient over y ~ p, y' ~ π_t is 0 if p = π_t, and only then."""
    logits = jnp.array([0.3, -1.2, 0.8, 0.1])
    opponent = jax.nn.log_softmax(logits)
    chosen, rejected = (x.reshape(-1) for x in np.mgrid[:4, :4])
    shape = lambda logp: jnp.stack([logp[chosen], logp[rejected]], 1)[..., None]

    def expected(logits, people):
        weight = (people[:, None] * jnp.exp(opponent)[None]).reshape(-1)
        action = jnp.zeros([16, 2, 1], jnp.int32)
        pairs = Preference(None, action, action == 0, margin=jnp.zeros(16), weight=weight)
        logp = shape(jax.nn.log_softmax(logits))
        return dpo(logp, shape(opponent), pairs, beta=0.5, link=link).total

    gradient = jax.grad(expected)
    np.testing.assert_allclose(gradient(logits, jnp.exp(opponent)), 0.0, atol=1e-7)
    people = jnp.array([0.7, 0.1, 0.1, 0.1])
    # At π = π_t all pairs are ties, so the slope is ℓ'(0) β (p − π_t).
    slope = jax.grad(link)(0.0) * 0.5 * (people - jnp.exp(opponent))
    np.testing.assert_allclose(gradient(logits, people), slope, atol=1e-6)
