"""f-divergences on distributions over few outcomes, where everything can be summed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.divergence import (
    DIVERGENCES,
    JENSEN_SHANNON,
    KL,
    LIMIT,
    PEARSON,
    REVERSE_KL,
    SQUARED_HELLINGER,
    alpha_divergence,
    discriminator_batch,
    fairl,
    gail,
    variational,
)
from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.rewards.embedding import EnsembleConfig, fit_members
from irl_jax.types import InputError, Rating, TabularMDP
from tests.oracles.losses import F_GAN
from tests.oracles.planning import trajectories

ALPHAS = tuple(alpha_divergence(alpha) for alpha in (-0.5, 0.5, 2.0))
every_divergence = pytest.mark.parametrize(
    "divergence", [*DIVERGENCES, *ALPHAS], ids=lambda d: d.name
)

P = np.array([0.5, 0.2, 0.15, 0.1, 0.05])  # demonstrations
Q = np.array([0.1, 0.3, 0.2, 0.1, 0.3])  # samples of the policy


def ratings(score, weight):
    return Rating(None, None, None, score=np.asarray(score), weight=np.asarray(weight))


def both_sides():
    """Each outcome once as a demonstration, of weight p, and once as a sample, of weight q."""
    return ratings(np.repeat([1.0, 0.0], 5), np.concatenate([P, Q]))


rows_of = jax.jit(discriminator_batch)


def best_logit(divergence):
    """v with g(v) = f'(p/q), by bisection: g increases."""
    _, g, _, slope = F_GAN[divergence.name]
    out = []
    for target in map(slope, P / Q):
        low, high = -20.0, 20.0
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if g(middle) < target else (low, middle)
        out.append(low)
    return np.array(out)


def test_binary_cross_entropy_is_jensen_shannon_plus_log_2():
    """At any logits; at the best ones, log 2 − JS(p, q) with JS = ½ KL(p‖m) + ½ KL(q‖m)."""
    middle = (P + Q) / 2
    js = 0.5 * sum((P * np.log(P / middle)) + Q * np.log(Q / middle))

    @jax.jit
    def means(logit):
        both = jnp.concatenate([logit, logit])
        cross = binary_cross_entropy(both, both_sides()).mean
        return cross, variational(both, both_sides(), divergence=JENSEN_SHANNON).mean

    with jax.enable_x64(True):
        for logit in (np.linspace(-2.0, 1.0, 5), np.log(P / Q)):
            cross, bound = map(float, means(logit))
            assert cross - bound == pytest.approx(np.log(2), rel=1e-12)
        assert cross == pytest.approx(np.log(2) - js, rel=1e-12)
        assert bound == pytest.approx(-js, rel=1e-12)


@every_divergence
def test_the_best_discriminator_attains_the_divergence_and_its_gradient_vanishes(divergence):
    f = F_GAN[divergence.name][0]
    exact = sum(q * f(p / q) for p, q in zip(P, Q, strict=True))
    assert exact > 0.05

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def bound(v):
        loss = variational(jnp.concatenate([v, v]), both_sides(), divergence=divergence)
        return -loss.total, (loss.metrics, divergence.log_ratio(v))

    best = best_logit(divergence)
    with jax.enable_x64(True):
        (total, (metrics, log_ratio)), slope = bound(best)
        assert total == pytest.approx(exact, abs=1e-6)
        np.testing.assert_allclose(slope, 0.0, atol=1e-9)
        np.testing.assert_allclose(log_ratio, np.log(P / Q), atol=1e-9)
        for noise in np.random.default_rng(0).normal(size=(5, 5)):
            assert float(bound(best + noise)[0][0]) < exact
    (expert, n), (policy, m) = (map(float, metrics[k]) for k in ("expert", "policy"))
    assert expert / n - policy / m == pytest.approx(exact, abs=1e-6)


@every_divergence
def test_conjugate_is_the_greatest_gap_between_a_line_and_the_generator(divergence):
    """f*(t) = sup over u of ut − f(u), by trying."""

    @jax.jit
    def both(v, u):
        gap = u * divergence.activation(v) - divergence(u)
        return divergence.conjugate(v), gap.max()

    u = np.exp(np.linspace(-12, 12, 400_001))
    with jax.enable_x64(True):
        for v in (-1.3, -0.2, 0.4, 1.1):
            conjugate, greatest = both(v, u)
            assert conjugate == pytest.approx(float(greatest), abs=1e-6)


@every_divergence
def test_a_discriminator_trained_on_samples_recovers_the_log_ratio(divergence):
    """A logit for each outcome; the sides are unequal in number, their frequencies exact."""
    count = lambda of, n: np.repeat(np.arange(5), np.rint(n * of).astype(int))
    outcome = np.concatenate([count(P, 4000), count(Q, 12_000)])
    rows = rows_of(np.arange(16_000) < 4000)
    config = EnsembleConfig(members=1, steps=400, batch_size=4000, lr=0.1, weight_decay=0.0)
    init = lambda key: jnp.zeros(5)
    objective = lambda v, batch: variational(v[batch[0]], batch[1], divergence=divergence)
    v, _ = fit_members(init, objective, (outcome, rows), jax.random.key(0), config=config)
    log_ratio = divergence.log_ratio(np.asarray(v)[0])
    np.testing.assert_allclose(log_ratio, np.log(P / Q), atol=0.1)


@every_divergence
def test_generators_are_zero_where_both_are_alike(divergence):
    at_1, apart = np.asarray(jax.jit(divergence)(np.float32([1.0, 0.3])))
    assert at_1 == 0
    assert apart == pytest.approx(F_GAN[divergence.name][0](0.3), rel=1e-5)


@functools.partial(jax.jit, static_argnums=0)
def value(divergence, p, q):
    return (q * divergence(p / q)).sum()


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=lambda d: d.name)
def test_swapped_kl_is_reverse_kl_and_the_symmetric_ones_stay(divergence):
    swapped = {"KL": "reverse KL", "reverse KL": "KL"}.get(divergence.name, divergence.name)
    other = next(d for d in DIVERGENCES if d.name == swapped)
    same = value(divergence, P, Q) == pytest.approx(float(value(other, Q, P)), rel=1e-5)
    assert same == (divergence is not PEARSON)


def test_the_alpha_divergences_are_kl_at_1_swapped_at_1_less_alpha_and_a_square_at_2():
    divergence = functools.cache(alpha_divergence)
    of = lambda alpha, p=P, q=Q: value(divergence(alpha), p, q)
    close = lambda x: pytest.approx(float(x), rel=1e-5)
    assert of(1.0) == close(value(KL, P, Q)) and of(0.0) == close(value(REVERSE_KL, P, Q))
    assert of(2.0) == close(float(value(PEARSON, P, Q)) / 2)
    assert of(0.5) == close(2 * float(value(SQUARED_HELLINGER, P, Q)))
    for alpha in (-0.5, 0.0, 0.3):
        assert of(alpha) == close(of(1 - alpha, Q, P))


def test_jensen_shannon_is_logistic_regression_less_log_two():
    """So that a reward of AfD needs no loss of its own."""
    rng = np.random.default_rng(0)
    v = rng.normal(size=8).astype(np.float32)
    batch = ratings(np.float32(np.arange(8) % 3 == 0), rng.uniform(0.5, 2.0, 8).astype(np.float32))
    means = lambda loss: (loss.mean, loss.metrics["accuracy"][0])
    loss, logistic = jax.jit(
        lambda v: (
            means(variational(v, batch, divergence=JENSEN_SHANNON)),
            means(binary_cross_entropy(v, batch)),
        )
    )(v)
    assert loss[0] == pytest.approx(float(logistic[0]) - np.log(2), rel=1e-5)
    assert loss[1] == pytest.approx(float(logistic[1]))


def test_rewards_of_gail_airl_and_fairl():
    h, far = np.float32([-2.0, 0.0, 1.5]), np.float32([-1e4, -1.0, 1e4])
    d = 1 / (1 + np.exp(-h))

    @jax.jit
    def rewards(h):
        by_b = {b: gail(h, b=b) for b in (0.0, 0.3, 0.5, 1.0)}
        return gail(h), by_b, {each.name: each.reward(h) for each in DIVERGENCES}, fairl(h)

    plain, by_b, by_name, fair = jax.device_get(rewards(h))
    np.testing.assert_allclose(plain, -np.log(1 - d), rtol=1e-5)
    for b, reward in by_b.items():
        wanted = b * np.log(d) - (1 - b) * np.log(1 - d)
        np.testing.assert_allclose(reward, wanted, rtol=1e-5, atol=1e-7)
    assert (plain > 0).all() and (by_b[1.0] < 0).all()
    np.testing.assert_allclose(by_b[0.5], h / 2, rtol=1e-6)
    with pytest.raises(InputError, match=r"^b: expected a number in"):
        gail(h, b=1.5)
    np.testing.assert_allclose(by_name["Jensen-Shannon"], plain - np.log(2), atol=1e-6)
    np.testing.assert_allclose(by_name["reverse KL"], h - 1, rtol=1e-6)
    np.testing.assert_allclose(by_name["KL"], np.exp(h), rtol=1e-5)
    np.testing.assert_allclose(by_name["Pearson chi-squared"], np.exp(2 * h) - 1, rtol=1e-5)
    np.testing.assert_allclose(fair, -np.exp(h) * h, rtol=1e-5)
    *_, by_name, fair = jax.device_get(rewards(far))
    assert all(np.isfinite(reward).all() for reward in by_name.values())
    assert np.isfinite(fair[2]) and fair[1] == pytest.approx(1 / np.e)


def test_a_policys_mean_of_the_rewards_is_the_divergence_that_they_descend():
    ratio = np.log(P / Q)
    kl = lambda a, b: float((a * np.log(a / b)).sum())
    assert (Q * np.asarray(jax.jit(fairl)(ratio))).sum() == pytest.approx(-kl(P, Q), rel=1e-5)
    assert (Q * ratio).sum() == pytest.approx(-kl(Q, P), rel=1e-5)


def table(seed):
    """Logits of a policy of the process, f64[3, 2]."""
    return np.random.default_rng(seed).normal(size=(3, 2))


def by_trajectories(theta, reward=np.zeros_like):
    """Visits ρ_π f64[3, 2] in H steps, and how a reward r(log ρ_E/ρ_π), held fixed, moves a policy.

    Σ P(τ) Σₜ ∇log π(aₜ | sₜ) Σ_{k≥t} r(sₖ, aₖ) / H.
    """
    policy = np.exp(theta) / np.exp(theta).sum(-1, keepdims=True)
    paths = [(s, a, x * policy[s, a].prod()) for s, a, x, _ in trajectories(PROCESS, HORIZON)]
    visits, slope = np.zeros((3, 2)), np.zeros((3, 2))
    for s, a, chance in paths:
        np.add.at(visits, (s, a), chance / HORIZON)
    r = np.asarray(reward(np.log(DEMONSTRATED / visits)))
    for s, a, chance in paths:
        for state, action, gain in zip(s, a, r[s, a][::-1].cumsum()[::-1] / HORIZON, strict=True):
            slope[state] += chance * gain * (np.eye(2)[action] - policy[state])
    return visits, slope


HORIZON = 3
PROCESS = TabularMDP(
    *map(np.random.default_rng(4).dirichlet, [np.ones(3), np.ones(3)], [(3, 2), ()]),
    np.ones((3, 2)),
)
DEMONSTRATED = np.ones((3, 2))
DEMONSTRATED = by_trajectories(table(0))[0]


@every_divergence
def test_the_reward_is_the_way_down_the_divergence_of_a_policys_visits(divergence):
    """Its policy gradient is that of −D_f(ρ_E‖ρ_π), by differences."""
    f = np.vectorize(F_GAN[divergence.name][0])
    value = lambda theta: (f(DEMONSTRATED / (q := by_trajectories(theta)[0])) * q).sum()
    theta, along = table(1), table(2)
    with jax.enable_x64(True):
        slope = by_trajectories(theta, jax.jit(divergence.reward))[1]
    difference = (value(theta + 1e-5 * along) - value(theta - 1e-5 * along)) / 2e-5
    assert abs(difference) > 1e-2
    assert (slope * along).sum() == pytest.approx(-difference, rel=1e-6)


def test_fairl_is_another_way_and_near_the_expert_the_opposite_one():
    """Though the mean of its reward is −KL(ρ_E‖ρ_π), as it is of no other."""
    with jax.enable_x64(True):
        slope = lambda x, reward: by_trajectories(x, jax.jit(reward))[1].ravel()
        cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        near = table(0) + 0.05 * table(1)
        assert cosine(slope(near, fairl), slope(near, KL.reward)) < -0.9


def test_far_out_logits_keep_a_gradient():
    """A sample of the policy taken for a demonstration beyond doubt is still pushed back."""
    one = ratings(np.float32([0.0]), np.float32([1.0]))
    for divergence in DIVERGENCES:
        slope = jax.jit(jax.grad(lambda v, d=divergence: variational(v, one, divergence=d).total))
        assert np.asarray(slope(np.float32([10 * LIMIT]))) > 0.1


def test_a_discriminator_batch_weighs_both_sides_the_same():
    rows = rows_of(np.array([True, False, False, False, True]))
    weight = np.asarray(rows.weight)
    assert weight.sum() == pytest.approx(5)
    assert weight[[0, 4]].sum() == pytest.approx(2.5)
    np.testing.assert_array_equal(rows.score, [1, 0, 0, 0, 1])
    assert rows_of(np.array([True, True])).weight.tolist() == [0.5, 0.5]
    with pytest.raises(InputError, match=r"^demonstrated: expected dtype bool"):
        discriminator_batch(np.ones(3, np.float32))


def test_steps_of_trajectories_are_rows_of_their_mask():
    """Padding is of weight 0 and may hold anything."""
    rng = np.random.default_rng(0)
    v = rng.normal(size=(2, 3)).astype(np.float32)
    mask = np.array([[True, True, False], [True, True, True]])
    v[~mask] = np.nan
    expert = np.repeat([[1.0], [0.0]], 3, axis=1)
    batch = ratings(expert.reshape(-1), mask.astype(np.float32).reshape(-1))
    loss = jax.jit(lambda v: variational(v, batch, divergence=REVERSE_KL))(v.reshape(-1))
    total = np.exp(-v[0, :2]).sum() + (v[1] - 1).sum()
    assert loss.total == pytest.approx(total, rel=1e-5) and loss.weight == 5
