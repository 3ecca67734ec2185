import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.advantages import group_advantages
from irl_jax.dynamics.returns import returns
from irl_jax.dynamics.shaping import kl_penalised
from irl_jax.losses.policy import (
    cispo,
    dapo,
    dr_grpo,
    gmpo,
    grpo,
    gspo,
    ppo,
    reinforce,
)
from irl_jax.losses.policy_variants import luspo, sapo, vespo
from irl_jax.losses.ratio import k1, k2, k3, probability_ratio, tangent_expm1
from irl_jax.losses.reduction import sequence_mean, token_mean
from irl_jax.losses.surrogate import clip_bounds, clipped_surrogate
from irl_jax.masking import gather_logp
from irl_jax.types import Group, InputError


def array(x):
    return np.asarray(x, np.float32)


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


LOGITS = array([0.4, -1.0, 0.2, 1.1])
REFERENCE = log_softmax(array([-0.3, 0.5, 0.9, 0.0]))


@functools.partial(jax.jit, static_argnums=0)
def enumerated(estimator, logits):
    """Expected value of an estimator of KL(π‖π_ref), and of its gradient, over all actions."""
    probability = jax.nn.softmax(logits)
    mean = lambda x: (
        jax.lax.stop_gradient(probability) * estimator(jax.nn.log_softmax(x), REFERENCE)
    ).sum()
    return jax.value_and_grad(mean)(logits)


@jax.jit
@jax.value_and_grad
def reverse_kl(logits):
    logp = jax.nn.log_softmax(logits)
    return (jnp.exp(logp) * (logp - REFERENCE)).sum()


@jax.jit
@jax.value_and_grad
def forward_kl(logits):
    return (jnp.exp(REFERENCE) * (REFERENCE - jax.nn.log_softmax(logits))).sum()


@pytest.mark.parametrize("estimator", [k1, k3])
def test_k1_and_k3_are_unbiased(estimator):
    np.testing.assert_allclose(enumerated(estimator, LOGITS)[0], reverse_kl(LOGITS)[0], rtol=1e-5)


def test_k2_is_biased():
    assert abs(float(enumerated(k2, LOGITS)[0]) - float(reverse_kl(LOGITS)[0])) > 0.01


def test_expected_gradient_of_k1_is_zero():
    np.testing.assert_allclose(enumerated(k1, LOGITS)[1], 0, atol=1e-6)


def test_expected_gradient_of_k2_is_that_of_the_reverse_kl():
    gradient = enumerated(k2, LOGITS)[1]
    np.testing.assert_allclose(gradient, reverse_kl(LOGITS)[1], atol=1e-6)
    assert np.abs(gradient).max() > 0.1


def test_expected_gradient_of_k3_is_that_of_the_forward_kl():
    gradient = enumerated(k3, LOGITS)[1]
    np.testing.assert_allclose(gradient, forward_kl(LOGITS)[1], atol=1e-6)
    assert np.abs(np.subtract(gradient, reverse_kl(LOGITS)[1])).max() > 0.05


def test_k1_in_the_reward_has_the_gradient_of_the_reverse_kl():
    logp = log_softmax(LOGITS)

    @jax.jit
    @jax.grad
    def reinforce(logits):
        penalty = jax.lax.stop_gradient(k1(jnp.asarray(logp), REFERENCE))
        return (np.exp(logp) * penalty * jax.nn.log_softmax(logits)).sum()

    np.testing.assert_allclose(reinforce(LOGITS), reverse_kl(LOGITS)[1], atol=1e-6)


def test_a_tangent_goes_on_as_steep_as_the_curve_was():
    both = jax.jit(jax.vmap(jax.value_and_grad(lambda x: tangent_expm1(x, 1.0))))
    value, slope = both(array([-2.0, 0.5, 1.0, 3.0]))
    np.testing.assert_allclose(value, [np.expm1(-2), np.expm1(0.5), np.e - 1, 3 * np.e - 1], 1e-6)
    np.testing.assert_allclose(slope, np.exp([-2.0, 0.5, 1.0, 1.0]), 1e-6)


def test_k3_near_the_reference_keeps_its_digits():
    x = np.float32(1e-4)
    np.testing.assert_allclose(jax.jit(k3)(np.float32(0), x), x**2 / 2, rtol=1e-2)


k3_and_slope = jax.jit(jax.value_and_grad(k3))
ratio_and_slopes = jax.jit(jax.value_and_grad(probability_ratio, (0, 1)))


@pytest.mark.parametrize("x", [19.0, 20.0, 21.0, 60.0, 1e4])
def test_k3_and_the_ratio_pull_the_right_way_far_from_the_reference(x):
    """π much less likely than π_ref: descending on k3 must raise log π."""
    value, gradient = k3_and_slope(array(-x), array(0))
    assert np.isfinite(value) and value > 1e7
    assert np.isfinite(gradient) and gradient < -1e7
    ratio, (slope, by_behaviour) = ratio_and_slopes(array(x), array(0))
    assert np.isfinite(ratio) and ratio > 1e7
    assert np.isfinite(slope) and slope > 1e7
    assert by_behaviour == 0


def test_the_ratio_is_exact_where_it_is_read():
    log = np.linspace(-8, 19, 28, dtype=np.float32)
    ratio = jax.jit(probability_ratio)(log, 0 * log)
    np.testing.assert_allclose(ratio, np.exp(log), rtol=2e-6, atol=1e-7)


@jax.jit
@functools.partial(jax.value_and_grad, has_aux=True)
def surrogate_and_slope(ratio, advantage):
    return clipped_surrogate(ratio, advantage, (0.8, 1.3))


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
        (0.5, 0.0, 0.0, False),
    ],
)
def test_clipped_surrogate(ratio, advantage, value, clipped):
    (got, binds), slope = surrogate_and_slope(array(ratio), array(advantage))
    assert got == pytest.approx(value, rel=1e-6)
    assert bool(binds) is clipped
    assert slope == (0.0 if clipped else advantage)


def group(seed=0, b=2, k=3, t=4, v=5):
    rng = np.random.default_rng(seed)
    logits = array(rng.standard_normal([b, k, t, v]))
    action = rng.integers(0, v, [b, k, t], np.int32)
    length = rng.integers(1, t + 1, [b, k])
    batch = Group(
        context=None,
        action=action,
        mask=np.arange(t) < length[..., None],
        logp=of_actions(logits, action),
        reward=array(rng.standard_normal([b, k])),
        terminated=np.ones([b, k], bool),
    )
    return logits, batch, length


def of_actions(logits, action):
    return np.take_along_axis(log_softmax(logits), action[..., None], -1)[..., 0]


advantages = jax.jit(group_advantages)


@pytest.mark.parametrize("aggregate", [sequence_mean, token_mean])
def test_on_policy_gradient_is_reinforce(aggregate):
    """With ρ = 1, ∇L = −mean(A ∇ log π), whatever the clip."""
    logits, batch, length = group()
    advantage = np.asarray(advantages(batch.reward))

    def objective(x):
        logp = gather_logp(x, batch.action)
        loss = ppo if aggregate is token_mean else grpo
        return loss(logp, batch, advantage=advantage, clip=0.2).mean

    def reinforce(x):
        logp = gather_logp(x, batch.action)
        total = 0.0
        for b, k in np.ndindex(*length.shape):
            n = length[b, k]
            share = length.sum() if aggregate is token_mean else length.size * n
            total -= advantage[b, k] * logp[b, k, :n].sum() / share
        return total

    gradient, expected = jax.jit(lambda x: (jax.grad(objective)(x), jax.grad(reinforce)(x)))(logits)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
    assert np.abs(gradient).max() > 0.01


def test_on_policy_metrics():
    _, batch, _ = group()
    loss = jax.jit(functools.partial(grpo, clip=0.2, beta=0.1))(
        batch.logp, batch, advantage=batch.reward, ref_logp=batch.logp
    )
    means = {k: float(total / weight) for k, (total, weight) in loss.metrics.items()}
    expected = {"ratio": 1.0, "clip_fraction": 0, "kl_behaviour": 0, "kl_token": 0, "kl": 0}
    entropy = means.pop("entropy")
    assert means == pytest.approx(expected, abs=1e-6)
    assert entropy == pytest.approx(-float(batch.logp[batch.mask].mean()), rel=1e-5)


def test_equal_advantages_of_zero_leave_only_the_penalty():
    _, batch, _ = group()
    ref_logp = batch.logp - array(0.3)
    loss = jax.jit(functools.partial(grpo, clip=0.2, beta=0.5, kl=k1))(
        batch.logp, batch, advantage=np.zeros([2, 3], np.float32), ref_logp=ref_logp
    )
    assert loss.mean == pytest.approx(0.5 * 0.3, rel=1e-5)
    total, weight = loss.metrics["kl_token"]
    assert total / weight == pytest.approx(0.3, rel=1e-5)


def test_beta_of_zero_still_reports_the_kl():
    _, batch, _ = group()
    free, watched = jax.jit(
        lambda x, ref_logp: (
            grpo(x, batch, advantage=batch.reward, clip=0.2, beta=0.0),
            grpo(x, batch, advantage=batch.reward, clip=0.2, beta=0.0, ref_logp=ref_logp, kl=k1),
        )
    )(batch.logp, batch.logp - array(0.3))
    assert free.total == watched.total
    assert "kl" in watched.metrics and "kl" not in free.metrics
    tokens = batch.mask.sum() / 6
    total, weight = watched.metrics["kl"]
    assert total / weight == pytest.approx(0.3 * tokens, rel=1e-5)


def test_scaled_advantages_of_a_group_of_two_do_not_depend_on_the_gap():
    _, batch, _ = group(k=2)
    near, far = (array([[1.0, 1.0 + gap]] * 2) for gap in (0.5, 50.0))

    @jax.jit
    def total(reward):
        advantage = group_advantages(reward, eps=0.0)
        return grpo(batch.logp, batch, advantage=advantage, clip=0.2, beta=0.0).total

    np.testing.assert_allclose(total(near), total(far), rtol=1e-5, atol=1e-6)


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


def test_an_advantage_of_another_shape_is_refused():
    """[B, 1] and [B, K, 1] would broadcast."""
    _, batch, _ = group()
    for shape in [(2, 3, 1), (2, 1), (3,)]:
        with pytest.raises(InputError, match=r"^advantage: expected shape \[2, 3"):
            grpo(batch.logp, batch, advantage=np.zeros(shape, np.float32), clip=0.2, beta=0.0)


NEAR = {
    "ppo": lambda *x, **y: ppo(*x, clip=0.2, **y),
    "dapo": lambda *x, **y: dapo(*x, clip=(0.2, 0.28), **y),
    "cispo": lambda *x, **y: cispo(*x, clip=(1.0, 0.28), **y),
    "dr_grpo": lambda *x, **y: dr_grpo(*x, clip=0.2, length=4.0, **y),
    "grpo": lambda *x, **y: grpo(*x, clip=0.2, beta=0.0, **y),
    "gspo": lambda *x, **y: gspo(*x, clip=0.2, **y),
    "gmpo": lambda *x, **y: gmpo(*x, clip=0.2, **y),
    "luspo": lambda *x, **y: luspo(*x, clip=0.2, **y),
    "sapo": lambda *x, **y: sapo(*x, positive=0.7, negative=2.0, **y),
    "vespo": lambda *x, **y: vespo(*x, positive=(2.0, 3.0), negative=(3.0, 2.0), **y),
}
BY_TOKEN = ("ppo", "dapo", "cispo", "dr_grpo", "luspo", "vespo")  # not by a completion's length


@functools.partial(jax.jit, static_argnums=0, static_argnames=("clip", "beta", "dual"))
def total_and_slope(loss, logp, batch, **options):
    """A loss's total, f32[], and its gradient by the log-probs, f32[B, K, T]."""
    return jax.value_and_grad(lambda x: loss(x, batch, **options).total)(logp)


def by_logp(*args, **options):
    return np.asarray(total_and_slope(*args, **options)[1])


@pytest.mark.parametrize("name", NEAR)
def test_on_policy_every_surrogate_has_the_gradient_of_reinforce(name):
    """The total, that is, with what a token counts put back."""
    _, batch, length = group()
    advantage = advantages(batch.reward)
    counts = 1.0 if name in BY_TOKEN else length[..., None]
    gradient = counts * by_logp(NEAR[name], batch.logp, batch, advantage=advantage)
    expected = by_logp(reinforce, batch.logp, batch, advantage=advantage)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(expected).max() > 0.1


def one_token(log_ratio, advantage):
    """A completion of one token whose log-prob has moved by log_ratio."""
    ones = np.ones([1, 1], bool)
    logp = np.full([1, 1, 1], -1.0, np.float32)
    batch = Group(None, np.zeros([1, 1, 1], int), ones[..., None], logp, array([[0]]), ones)
    return logp + array(log_ratio), batch, array([[advantage]])


@pytest.mark.parametrize("log_ratio", [-0.5, -0.1, 0.0, 0.1, 0.5])
@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_of_one_token_all_clipped_ratios_are_one(log_ratio, advantage):
    """GSPO's and GMPO's ratio of one token is GRPO's (GMPO clips its log)."""
    logp, batch, a = one_token(log_ratio, advantage)
    total = lambda loss, **clip: total_and_slope(loss, logp, batch, advantage=a, **clip)[0]
    expected = total(NEAR["grpo"])
    assert total(NEAR["gspo"]) == pytest.approx(expected)
    assert total(gmpo, clip=(-np.log(0.8), np.log(1.2))) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "weight"),
    [(0.0, 2.0, 1.0), (0.2, 2.0, np.exp(0.2)), (1.0, 2.0, 1.5), (1.0, -2.0, 1.5), (-3.0, 2.0, 0.5)],
)
def test_cispo_weighs_every_token(log_ratio, advantage, weight):
    """−clip(ρ) A, where PPO's gradient would be 0 in the third."""
    logp, batch, a = one_token(log_ratio, advantage)
    gradient = by_logp(cispo, logp, batch, advantage=a, clip=0.5)
    np.testing.assert_allclose(gradient, -weight * advantage, rtol=1e-6)
    if log_ratio == 1.0 and advantage > 0:
        assert not by_logp(grpo, logp, batch, advantage=a, clip=0.5, beta=0.0).any()


@pytest.mark.parametrize(("advantage", "tau"), [(2.0, 0.7), (-2.0, 2.0)])
def test_a_soft_gate_falls_off_to_either_side(advantage, tau):
    """−A ρ 4 σ(1 − σ): ρ A at ρ = 1, and less wherever the ratio moved to."""
    for log_ratio in (-2.0, -0.3, 0.0, 0.3, 0.7):
        logp, batch, a = one_token(log_ratio, advantage)
        ratio = np.exp(log_ratio)
        gate = 1 / (1 + np.exp(-tau * (ratio - 1)))
        slope = 4 * gate * (1 - gate)
        assert (slope == 1) if log_ratio == 0 else (slope < 1)
        gradient = by_logp(NEAR["sapo"], logp, batch, advantage=a)
        np.testing.assert_allclose(gradient, -advantage * ratio * slope, rtol=1e-5)


@pytest.mark.parametrize(("advantage", "k", "rate"), [(2.0, 2.0, 3.0), (-2.0, 3.0, 2.0)])
def test_vespo_weighs_a_completion_by_its_whole_ratio(advantage, k, rate):
    """Two tokens that moved by 0.4 and −0.1 nats: W = exp(0.3) for both."""
    mask, old = np.ones([1, 1, 2], bool), np.full([1, 1, 2], -1.0, np.float32)
    batch = Group(None, np.zeros([1, 1, 2], int), mask, old, array([[0]]), mask[..., 0])
    logp = old + array([0.4, -0.1])
    gradient = by_logp(NEAR["vespo"], logp, batch, advantage=array([[advantage]]))
    ratio = np.exp(0.3)
    weight = ratio**k * np.exp(rate * (1 - ratio))
    np.testing.assert_allclose(gradient, np.full([1, 1, 2], -weight * advantage), rtol=1e-5)
    far = by_logp(NEAR["vespo"], logp + array(40.0), batch, advantage=array([[advantage]]))
    assert not far.any()


def test_a_token_counts_by_the_aggregation():
    """Two completions, of 1 and of 3 tokens, with A = 1: what a token of each pulls."""
    mask = np.arange(3) < np.array([[1], [3]])[None]
    logp, ones = np.zeros([1, 2, 3], np.float32), np.ones([1, 2], np.float32)
    batch = Group(None, np.zeros([1, 2, 3], int), mask, logp, ones, ones > 0)
    expected = {
        "grpo": [1 / 2, 1 / 6],
        "dapo": [1 / 4, 1 / 4],
        "dr_grpo": [1 / 8, 1 / 8],
        "gspo": [1 / 2, 1 / 6],
        "luspo": [1 / 2, 1 / 2],
    }
    for name, (short, long) in expected.items():
        mean = lambda x, loss=NEAR[name]: loss(x, batch, advantage=ones).mean
        pull = -np.asarray(jax.jit(jax.grad(mean))(logp))[0]
        np.testing.assert_allclose(pull, [[short, 0, 0], [long] * 3], rtol=1e-6)


def test_weights_of_samples_multiply_the_advantage():
    """min(ρ w A, clip(ρ) w A) = w min(ρ A, clip(ρ) A) for w >= 0."""
    logits, batch, _ = group()
    logp = of_actions(array(1.3) * logits, batch.action)
    advantage = np.asarray(advantages(batch.reward))[..., None]
    weight = np.linspace(0.0, 2.0, batch.mask.size, dtype=np.float32).reshape(batch.mask.shape)
    one = by_logp(NEAR["ppo"], logp, batch, advantage=advantage * np.ones_like(weight))
    both = by_logp(NEAR["ppo"], logp, batch, advantage=advantage * weight)
    np.testing.assert_allclose(both, weight * one, rtol=1e-5, atol=1e-6)


def test_the_entropy_bonus_has_the_gradient_of_the_entropy():
    """In expectation over the actions; H = −Σ π log π."""
    logp, n = log_softmax(LOGITS), LOGITS.size
    ones = np.ones([1, n], bool)
    batch = Group(None, np.zeros([1, n, 1], int), ones[..., None], logp[None, :, None],
                  np.zeros([1, n], np.float32), ones)  # fmt: skip

    def expected_bonus(x):
        """Each action once, weighted by its probability through the penalty's linearity."""
        each = lambda a: (
            reinforce(
                jax.nn.log_softmax(x)[None, a : a + 1, None],
                jax.tree.map(lambda y: y[:, a : a + 1], batch),
                advantage=jnp.zeros([1, 1]),
                entropy=1.0,
            ).total
        )
        return sum(np.exp(logp[a]) * each(a) for a in range(n))

    entropy = lambda x: -(jax.nn.softmax(x) * jax.nn.log_softmax(x)).sum()
    both = jax.jit(lambda x: (jax.grad(expected_bonus)(x), -jax.grad(entropy)(x)))
    np.testing.assert_allclose(*both(LOGITS), atol=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [
        (1.5, -2.0, -3.0, -2.0),  # grew against the advantage: full pull back
        (2.5, -2.0, -5.0, -2.0),
        (4.0, -2.0, -6.0, 0.0),  # beyond c: the loss is bounded, and so is the pull
        (0.5, -2.0, -1.6, 0.0),
        (4.0, 2.0, 2.4, 0.0),
        (0.5, 2.0, 1.0, 2.0),
        (4.0, 0.0, 0.0, 0.0),
    ],
)
def test_the_dual_clip_bounds_the_loss_of_what_should_not_have_grown(
    ratio, advantage, value, slope
):
    logp, batch, a = one_token(np.log(ratio), advantage)
    total, gradient = total_and_slope(ppo, logp, batch, advantage=a, clip=0.2, dual=3.0)
    assert -float(total) == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(np.negative(gradient), slope * ratio, rtol=1e-6)
    with pytest.raises(InputError, match=r"^dual: expected a number in \(1"):
        ppo(logp, batch, advantage=a, clip=0.2, dual=1.0)


PAIR = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])  # completions of two tokens, two symbols
OWN, OTHER = array([0.0, 0.0, 2.0]), array([0.2, 0.0, -1.0])


def two_tokens(logits):
    """log π of the tokens of each completion, f32[4, 2].

    logits: of symbol 1 as the first token, and as the second after a 0 and after a 1.
    """
    log_sigma = lambda z, symbol: -jnp.logaddexp(0.0, jnp.where(symbol == 1, -z, z))
    first, second = PAIR.T
    return jnp.stack([log_sigma(logits[0], first), log_sigma(logits[1 + first], second)], -1)


def expected_gradient(advantage=None, **penalties):
    """Of `reinforce`, over all completions, by the logits at `OWN`."""
    advantage = np.zeros([4, 2], np.float32) if advantage is None else advantage
    mask, nothing = np.ones([1, 1, 2], bool), np.zeros([1, 1], np.float32)

    @jax.jit
    @jax.grad
    def slope(logits):
        total, probability = 0.0, jnp.exp(two_tokens(OWN).sum(-1))
        for i, logp in enumerate(two_tokens(logits)):
            batch = Group(None, PAIR[i][None, None], mask, logp[None, None], nothing, nothing > 0)
            arrays = {"advantage": advantage[i][None, None]}
            if "kl" in penalties:
                arrays["ref_logp"] = two_tokens(OTHER)[i][None, None]
            loss = reinforce(logp[None, None], batch, **arrays, **penalties)
            total += probability[i] * loss.total
        return total

    return slope(OWN)


@jax.jit
@jax.grad
def slope_of_the_kl_of_completions(logits):
    own, other = two_tokens(logits).sum(-1), two_tokens(OTHER).sum(-1)
    return (jnp.exp(own) * (own - other)).sum()


def test_sums_of_k2_and_k3_over_tokens_are_not_the_kl_of_completions():
    """By enumeration; the first logit moves which prefix, of a small or a large KL, comes."""
    exact = slope_of_the_kl_of_completions(OWN)
    by_k2, by_k3 = (expected_gradient(beta=1.0, kl=kl) for kl in (k2, k3))
    np.testing.assert_allclose(exact, [0.1572, 0.0, 0.1575], atol=2e-4)
    np.testing.assert_allclose(by_k2, [-0.05, 0.0, 0.1575], atol=2e-4)
    np.testing.assert_allclose(by_k3, [-0.0498, 0.0, 0.3059], atol=2e-4)

    mask, zeros = np.ones([4, 2], bool), np.zeros(4, np.float32)

    @jax.jit
    def penalties():
        reward = kl_penalised(zeros, two_tokens(OWN), two_tokens(OTHER), mask, beta=1.0)
        return returns(reward, mask, discount=1.0)

    in_reward = expected_gradient(np.asarray(penalties()))
    np.testing.assert_allclose(in_reward, exact, atol=1e-6)
    whole = lambda x: (
        jnp.exp(two_tokens(OWN).sum(-1)) * k2(two_tokens(x).sum(-1), two_tokens(OTHER).sum(-1))
    ).sum()
    np.testing.assert_allclose(jax.jit(jax.grad(whole))(OWN), exact, atol=1e-6)


def test_the_entropy_bonus_is_of_each_token_and_not_of_completions():
    own = lambda x: two_tokens(x).sum(-1)
    negentropy = lambda x: (jnp.exp(own(x)) * own(x)).sum()
    exact, bonus = jax.jit(jax.grad(negentropy))(OWN), expected_gradient(entropy=1.0)
    exact, bonus = np.asarray(exact), np.asarray(bonus)
    np.testing.assert_allclose(exact[1:], bonus[1:], atol=1e-6)  # the last token's own
    assert abs(bonus[0]) < 1e-6 < 0.05 < exact[0]  # after a 1, less entropy is left


def test_a_completion_whose_first_token_is_masked_learns_from_the_others():
    """Where stale tokens are masked, what is left is a shorter completion."""
    logp = array([[[-0.3, -0.7, -0.2], [-0.4, -0.1, -0.6]]])
    mask = np.array([[[False, True, True], [True, True, True]]])
    advantage = array([[1.0, -1.0]])

    @jax.jit
    @jax.value_and_grad
    def loss(logp, mask):
        nothing = jnp.zeros(mask.shape[:2])
        group = Group(None, None, mask, jnp.zeros_like(logp), nothing, nothing > 0)
        return reinforce(logp, group, advantage=advantage).total

    total, gradient = loss(logp, mask)
    assert float(total) == pytest.approx(0.9 - 1.1)
    np.testing.assert_allclose(gradient, [[[0, -1, -1], [1, 1, 1]]], rtol=1e-6)
