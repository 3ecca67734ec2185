import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.advantages import group_advantages
from irl_jax.losses.policy import (
    clip_bounds,
    clipped_surrogate,
    grpo,
    k1,
    k2,
    k3,
    probability_ratio,
)
from irl_jax.losses.reduction import sequence_mean, token_mean
from irl_jax.masking import gather_logp
from irl_jax.types import Group, InputError

LOGITS = jnp.array([0.4, -1.0, 0.2, 1.1])
REFERENCE = jax.nn.log_softmax(jnp.array([-0.3, 0.5, 0.9, 0.0]))


def enumerated(estimator, logits):
    """Expected value of an estimator of KL(π‖π_ref), and of its gradient, over all actions."""
    probability = jax.nn.softmax(logits)
    mean = lambda x: (
        jax.lax.stop_gradient(probability) * estimator(jax.nn.log_softmax(x), REFERENCE)
    ).sum()
    return mean(logits), jax.grad(mean)(logits)


def reverse_kl(logits):
    logp = jax.nn.log_softmax(logits)
    return (jnp.exp(logp) * (logp - REFERENCE)).sum()


def forward_kl(logits):
    return (jnp.exp(REFERENCE) * (REFERENCE - jax.nn.log_softmax(logits))).sum()


@pytest.mark.parametrize("estimator", [k1, k3])
def test_k1_and_k3_are_unbiased(estimator):
    np.testing.assert_allclose(enumerated(estimator, LOGITS)[0], reverse_kl(LOGITS), rtol=1e-5)


def test_k2_is_biased():
    assert abs(enumerated(k2, LOGITS)[0] - reverse_kl(LOGITS)) > 0.01


def test_expected_gradient_of_k1_is_zero():
    np.testing.assert_allclose(enumerated(k1, LOGITS)[1], 0, atol=1e-6)


def test_expected_gradient_of_k2_is_that_of_the_reverse_kl():
    gradient = enumerated(k2, LOGITS)[1]
    np.testing.assert_allclose(gradient, jax.grad(reverse_kl)(LOGITS), atol=1e-6)
    assert np.abs(gradient).max() > 0.1


def test_expected_gradient_of_k3_is_that_of_the_forward_kl():
    gradient = enumerated(k3, LOGITS)[1]
    np.testing.assert_allclose(gradient, jax.grad(forward_kl)(LOGITS), atol=1e-6)
    assert np.abs(gradient - jax.grad(reverse_kl)(LOGITS)).max() > 0.05


def test_k1_in_the_reward_has_the_gradient_of_the_reverse_kl():
    logp = jax.nn.log_softmax(LOGITS)
    penalty = jax.lax.stop_gradient(k1(logp, REFERENCE))
    reinforce = jax.grad(lambda x: (jnp.exp(logp) * penalty * jax.nn.log_softmax(x)).sum())
    np.testing.assert_allclose(reinforce(LOGITS), jax.grad(reverse_kl)(LOGITS), atol=1e-6)


def test_k3_near_the_reference_keeps_its_digits():
    x = np.float32(1e-4)
    np.testing.assert_allclose(k3(jnp.float32(0), x), x**2 / 2, rtol=1e-2)


@pytest.mark.parametrize("x", [19.0, 20.0, 21.0, 60.0, 1e4])
def test_k3_and_the_ratio_pull_the_right_way_far_from_the_reference(x):
    """π much less likely than π_ref: descending on k3 must raise log π."""
    value, gradient = jax.value_and_grad(k3)(jnp.float32(-x), jnp.float32(0))
    assert np.isfinite(value) and value > 1e7
    assert np.isfinite(gradient) and gradient < -1e7
    ratio, slope = jax.value_and_grad(probability_ratio)(jnp.float32(x), jnp.float32(0))
    assert np.isfinite(ratio) and ratio > 1e7
    assert np.isfinite(slope) and slope > 1e7


def test_the_ratio_is_exact_where_it_is_read():
    log = np.linspace(-8, 19, 28, dtype=np.float32)
    np.testing.assert_allclose(probability_ratio(log, 0 * log), np.exp(log), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "clipped"),
    [
        (1.0, 2.0, 2.0, False),
        (1.5, 2.0, 2.6, True),  # gained enough: no more pull
        (1.25, 2.0, 2.5, False),
        (0.5, 2.0, 1.0, False),  # lost what was good: full pull back
        (1.5, -2.0, -3.0, False),
        (0.5, -2.0, -1.6, True),
        (1.5, 0.0, 0.0, False),
    ],
)
def test_clipped_surrogate(ratio, advantage, value, clipped):
    surrogate = lambda r: clipped_surrogate(r, jnp.float32(advantage), (0.8, 1.3))
    got, binds = surrogate(jnp.float32(ratio))
    assert got == pytest.approx(value, rel=1e-6)
    assert bool(binds) is clipped
    slope = jax.grad(lambda r: surrogate(r)[0])(jnp.float32(ratio))
    assert slope == (0.0 if clipped else advantage)


def group(seed=0, b=2, k=3, t=4, v=5):
    rng = np.random.default_rng(seed)
    logits = jnp.asarray(rng.standard_normal([b, k, t, v]), jnp.float32)
    action = jnp.asarray(rng.integers(0, v, [b, k, t]), jnp.int32)
    length = rng.integers(1, t + 1, [b, k])
    batch = Group(
        context=None,
        action=action,
        mask=jnp.arange(t) < length[..., None],
        logp=gather_logp(logits, action),
        reward=jnp.asarray(rng.standard_normal([b, k]), jnp.float32),
        terminated=jnp.ones([b, k], bool),
    )
    return logits, batch, length


@pytest.mark.parametrize("aggregate", [sequence_mean, token_mean])
def test_on_policy_gradient_is_reinforce(aggregate):
    """With ρ = 1, ∇L = −mean(A ∇ log π), whatever the clip."""
    logits, batch, length = group()
    advantage = group_advantages(batch.reward)

    def objective(x):
        logp = gather_logp(x, batch.action)
        loss = grpo(logp, batch, advantage=advantage, clip=0.2, beta=0.0, aggregate=aggregate)
        return loss.mean

    def reinforce(x):
        logp = gather_logp(x, batch.action)
        total = 0.0
        for b, k in np.ndindex(*length.shape):
            n = length[b, k]
            share = length.sum() if aggregate is token_mean else length.size * n
            total -= advantage[b, k] * logp[b, k, :n].sum() / share
        return total

    gradient = jax.jit(jax.grad(objective))(logits)
    np.testing.assert_allclose(gradient, jax.jit(jax.grad(reinforce))(logits), atol=1e-6)
    assert np.abs(gradient).max() > 0.01


def test_on_policy_metrics():
    _, batch, _ = group()
    loss = grpo(batch.logp, batch, advantage=batch.reward, clip=0.2, beta=0.1, ref_logp=batch.logp)
    means = {k: float(total / weight) for k, (total, weight) in loss.metrics.items()}
    expected = {"ratio": 1.0, "clip_fraction": 0, "kl_behaviour": 0, "kl_token": 0, "kl": 0}
    entropy = means.pop("entropy")
    assert means == pytest.approx(expected, abs=1e-6)
    assert entropy == pytest.approx(-float(batch.logp[batch.mask].mean()), rel=1e-5)


def test_equal_advantages_of_zero_leave_only_the_penalty():
    _, batch, _ = group()
    ref_logp = batch.logp - 0.3
    loss = grpo(
        batch.logp, batch, advantage=jnp.zeros([2, 3]), clip=0.2, beta=0.5, ref_logp=ref_logp, kl=k1
    )
    assert loss.mean == pytest.approx(0.5 * 0.3, rel=1e-5)
    total, weight = loss.metrics["kl_token"]
    assert total / weight == pytest.approx(0.3, rel=1e-5)


def test_beta_of_zero_still_reports_the_kl():
    _, batch, _ = group()
    args = dict(advantage=batch.reward, clip=0.2, beta=0.0)
    free = grpo(batch.logp, batch, **args)
    watched = grpo(batch.logp, batch, **args, ref_logp=batch.logp - 0.3, kl=k1)
    assert free.total == watched.total
    assert "kl" in watched.metrics and "kl" not in free.metrics
    tokens = batch.mask.sum() / 6
    total, weight = watched.metrics["kl"]
    assert total / weight == pytest.approx(float(0.3 * tokens), rel=1e-5)


def test_scaled_advantages_of_a_group_of_two_do_not_depend_on_the_gap():
    _, batch, _ = group(k=2)
    near, far = (jnp.array([[1.0, 1.0 + gap]] * 2) for gap in (0.5, 50.0))
    losses = [
        grpo(batch.logp, batch, advantage=group_advantages(r, eps=0.0), clip=0.2, beta=0.0).total
        for r in (near, far)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5, atol=1e-6)


def test_a_penalty_needs_a_reference():
    _, batch, _ = group()
    with pytest.raises(InputError, match=r"^ref_logp: missing; beta = 0.1 needs it"):
        grpo(batch.logp, batch, advantage=batch.reward, clip=0.2, beta=0.1)


@pytest.mark.parametrize(
    ("clip", "side"), [(0.0, "lower"), (1.5, "lower"), (-0.1, "lower"), ((0.2, 0.0), "upper")]
)
def test_a_clip_out_of_range_is_named(clip, side):
    with pytest.raises(InputError, match=rf"^clip \({side} side\): expected a number in"):
        clip_bounds(clip)


def test_clip_bounds():
    assert clip_bounds(0.2) == (0.8, 1.2)
    assert clip_bounds((1.0, np.inf)) == (0.0, np.inf)


def test_an_advantage_of_tokens_is_refused():
    """f32[B, K, T] would weigh tokens; [B, 1] would broadcast."""
    _, batch, _ = group()
    for shape in [(2, 3, 4), (2, 1), (3,)]:
        with pytest.raises(InputError, match=r"^advantage: expected shape \[2, 3\]"):
            grpo(batch.logp, batch, advantage=jnp.zeros(shape), clip=0.2, beta=0.0)
