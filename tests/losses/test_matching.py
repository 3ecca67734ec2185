"""Occupancies of small processes brought together, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.planning import expected_next, finite_horizon, occupancy
from irl_jax.losses.divergence import DIVERGENCES, JENSEN_SHANNON, alpha_divergence
from irl_jax.losses.matching import f_irl, state_matching, value_dice
from irl_jax.types import InputError, Rating, TabularMDP, Trajectory
from tests.losses.tabular import DISCOUNT, A, S, expert, newton, process, share
from tests.oracles import matching as oracle
from tests.oracles import planning
from tests.oracles.losses import F_GAN

ABSENT = None
DIVERSE = (*DIVERGENCES, alpha_divergence(-0.5), alpha_divergence(2.0))
LOGIT = {"KL": lambda u: np.log(u) + 1, "squared Hellinger": lambda u: np.log(u) / 2} | {
    "Pearson chi-squared": lambda u: 2 * (u - 1)
}  # of the best discriminator; log u of the others


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def ratings(score, weight):
    return Rating(ABSENT, ABSENT, ABSENT, score=jnp.asarray(score), weight=jnp.asarray(weight))


# ----- ValueDICE


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_the_best_nu_tells_the_ratio_of_occupancies_and_the_loss_the_divergence(alpha):
    """x = log ρ_π/ρ_E + c and L = −KL(ρ_π‖ρ_E), mixed with a share of replayed samples."""
    mdp = process(ends=False)
    _, logp = expert(mdp, jax.random.normal(jax.random.key(1), (S, A)))
    policy = jax.nn.softmax(jax.random.normal(jax.random.key(2), (S, A)))
    old = jax.nn.log_softmax(jax.random.normal(jax.random.key(3), (S, A)))
    demonstrated, own, replayed = (share(occupancy(mdp, of)) for of in (logp, jnp.log(policy), old))
    weight = jnp.concatenate([(1 - alpha) * demonstrated, alpha * replayed])
    batch = ratings(np.repeat([1.0, 0.0], S * A), weight)
    twice = lambda x: jnp.tile(x.reshape(-1), 2)

    def objective(flat):
        nu = flat.reshape(S, A)
        value = (policy * nu).sum(-1)
        initial = S * mdp.start * value  # whose mean is E ν(s₀, a₀)
        following = expected_next(mdp, value)
        loss = value_dice(twice(nu), twice(following), initial, batch, discount=DISCOUNT)
        return loss.mean

    best = newton(objective, jnp.zeros(S * A))
    nu = best.reshape(S, A)
    x = (nu - expected_next(mdp, (policy * nu).sum(-1))).reshape(-1)
    mixed, expected = ((1 - alpha) * side + alpha * replayed for side in (own, demonstrated))
    apart = x - np.log(mixed / expected)
    np.testing.assert_allclose(apart, apart.mean(), atol=1e-7)
    kl = (mixed * np.log(mixed / expected)).sum()
    assert float(objective(best)) == pytest.approx(-float(kl), rel=1e-9)
    assert kl > 0.05


def dice_inputs(seed=0, n=6):
    rng = np.random.default_rng(seed)
    nu, following, weight = *rng.standard_normal((2, n)), rng.uniform(0.5, 2.0, n)
    return [nu, following, rng.standard_normal(3)], rng.random(n) < 0.7, weight


@pytest.mark.parametrize("seed", range(3))
def test_value_dice_equals_oracle_and_garbage_changes_nothing(seed):
    arrays, demonstrated, weight = dice_inputs(seed)
    score = demonstrated.astype(float)
    expected = float(oracle.value_dice(*arrays, ratings(score, weight), discount=0.8))
    run = jax.jit(jax.value_and_grad(
        lambda nu, *rest: value_dice(nu, *rest, discount=0.8).total, argnums=(0, 1)
    ))  # fmt: skip
    value, slopes = run(*arrays, ratings(score, weight))
    assert float(value) == pytest.approx(expected, rel=1e-12)
    for fill in (np.nan, np.inf, 1e30):
        longer = [np.append(x, fill) for x in (arrays[0], arrays[1], score)]
        batch = ratings(longer[2], np.append(weight, 0.0))
        again, spoilt = run(longer[0], longer[1], arrays[2], batch)
        assert float(again) == pytest.approx(expected, rel=1e-12)
        for slope, other in zip(slopes, spoilt, strict=True):
            np.testing.assert_allclose(other, np.append(slope, 0.0), rtol=1e-10)
    for many in (np.zeros_like(weight), weight):  # nothing counts; logits of 1e4
        value, slopes = run(*(1e4 * x for x in arrays), ratings(score, many))
        assert all(np.isfinite(x).all() for x in (value, *slopes))
        assert many.any() or (float(value) == 0.0 and not np.any(slopes[0]))


# ----- f-IRL

FEW, STEPS, TEMPERATURE = (3, 2), 4, 0.7


def small(*, slip):
    """Undiscounted episodes from one state; an action goes 1 or 2 states on, one ends it."""
    states, actions = FEW
    to = (jnp.arange(states)[:, None] + jnp.arange(actions) + 1) % states
    prob = (1 - slip) * jax.nn.one_hot(to, states, dtype=float) + slip / states
    discount = jnp.ones(FEW).at[1, 0].set(0.0)
    return TabularMDP(prob, jnp.array([1.0, 0.0, 0.0]), discount)


def soft_policy(mdp, reward):
    of_actions = jnp.broadcast_to(reward[:, None], FEW)
    return finite_horizon(mdp, of_actions, horizon=STEPS, temperature=TEMPERATURE).logp


def states_visited(mdp, reward):
    return occupancy(mdp, soft_policy(mdp, reward)).sum((0, 2))


@pytest.fixture(scope="module")
def worlds():
    """Processes with all their trajectories; without chance, and with it."""
    with jax.enable_x64(True):
        found = {}
        for slip in (0.0, 0.3):
            mdp = small(slip=slip)
            paths = list(planning.trajectories(mdp, STEPS))
            found[slip] = mdp, [np.array(x) for x in zip(*paths, strict=True)]
        return found


def by_trajectories(mdp, paths, reward, divergence, demonstrated):
    """The gradient of `f_irl` over all trajectories, each as likely as it is."""
    state, action, luck, alive = paths
    logp = np.asarray(soft_policy(mdp, reward))
    mask = alive > 0
    chance = luck * np.exp(logp[np.arange(STEPS), state, action].sum(-1))
    own = np.asarray(states_visited(mdp, reward))
    ratio = (demonstrated / demonstrated.sum()) / (own / own.sum())
    logit = LOGIT.get(divergence.name, np.log)(ratio)
    h = [oracle.h(divergence.name, u) for u in ratio]
    options = {"divergence": divergence, "temperature": TEMPERATURE}

    def one(reward, state, mask):
        batch = Trajectory(ABSENT, ABSENT, mask[None], ABSENT, ABSENT, ABSENT)
        baseline = (own / own.sum()) @ np.array(h)
        loss = f_irl(
            reward[state][None], batch, logit=jnp.asarray(logit)[state][None],
            baseline=baseline, **options,
        )  # fmt: skip
        return loss.total, loss.weight

    def mean(reward):
        total, weight = jax.vmap(one, (None, 0, 0))(reward, state, mask)
        return (total @ chance) / (weight @ chance)

    return jax.jit(jax.grad(mean))(reward)


def exactly(mdp, reward, divergence, demonstrated):
    """The gradient of the divergence itself, through planning and occupancies."""
    of = lambda r: state_matching(states_visited(mdp, r), demonstrated, divergence=divergence)
    return jax.jit(jax.grad(lambda r: of(r).mean))(reward)


@pytest.mark.parametrize("divergence", DIVERSE, ids=lambda d: d.name)
def test_the_covariance_is_the_gradient_of_the_divergence(worlds, divergence):
    mdp, paths = worlds[0.0]
    rng = np.random.default_rng(0)
    reward, hidden = jnp.asarray(rng.normal(size=(2, FEW[0])))
    demonstrated = states_visited(mdp, hidden)
    expected = exactly(mdp, reward, divergence, demonstrated)
    assert np.abs(expected).max() > 1e-3
    got = by_trajectories(mdp, paths, reward, divergence, demonstrated)
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-12)
    at_home = by_trajectories(mdp, paths, hidden, divergence, demonstrated)
    np.testing.assert_allclose(at_home, 0.0, atol=1e-12)


def test_where_chance_plays_a_part_the_covariance_is_another_gradient(worlds):
    mdp, paths = worlds[0.3]
    reward, hidden = jnp.asarray(np.random.default_rng(0).normal(size=(2, FEW[0])))
    demonstrated = states_visited(mdp, hidden)
    arguments = reward, JENSEN_SHANNON, demonstrated
    apart = by_trajectories(mdp, paths, *arguments) - exactly(mdp, *arguments)
    assert np.abs(apart).max() > 1e-3


def test_the_baseline_is_the_mean_of_the_batch_unless_it_is_given():
    rng = np.random.default_rng(1)
    reward, logit = jnp.asarray(rng.normal(size=(2, 3, 4)))
    mask = jnp.arange(4) < jnp.array([4, 2, 0])[:, None]
    batch = Trajectory(ABSENT, ABSENT, mask, ABSENT, ABSENT, ABSENT)
    options = {"logit": logit, "divergence": JENSEN_SHANNON, "temperature": 1.0}
    h = [oracle.h("Jensen-Shannon", np.exp(v)) for v in np.asarray(logit)[mask]]
    given = f_irl(reward, batch, baseline=np.mean(h), **options)
    own = f_irl(reward, batch, **options)
    assert float(own.mean) == pytest.approx(float(given.mean), rel=1e-12)
    shifted = f_irl(reward + mask, batch, **options)  # longer rows do not win by their length
    lengths = np.array([4, 2, 0])
    terms = np.where(mask, -JENSEN_SHANNON.conjugate(logit) - np.mean(h), 0.0).sum(-1)
    change = float(shifted.total - own.total)
    assert change == pytest.approx(float(terms @ lengths), rel=1e-9)


@pytest.mark.parametrize("divergence", DIVERSE, ids=lambda d: d.name)
def test_the_divergence_of_occupancies_is_the_sum(divergence):
    own, expert_visits = np.array([1.0, 3.0, 4.0, 0.0]), np.array([2.0, 1.0, 1.0, 0.0])
    p, q = expert_visits[:3] / 4, own[:3] / 8
    expected = sum(b * F_GAN[divergence.name][0](a / b) for a, b in zip(p, q, strict=True))
    loss = state_matching(jnp.asarray(own), jnp.asarray(expert_visits), divergence=divergence)
    assert float(loss.mean) == pytest.approx(expected, rel=1e-12)


def test_bad_input():
    zeros, batch = jnp.zeros(2), ratings(np.ones(2), np.ones(2))
    with pytest.raises(InputError, match=r"^following: expected shape \[2\]"):
        value_dice(zeros, zeros[:1], zeros, batch, discount=0.9)
    with pytest.raises(InputError, match=r"^batch.weight: expected shape \[2\]"):
        value_dice(zeros, zeros, zeros, batch.replace(weight=jnp.ones(1)), discount=0.9)
    with pytest.raises(InputError, match=r"^discount: expected a number in \[0"):
        value_dice(zeros, zeros, zeros, batch, discount=1.1)
    with pytest.raises(InputError, match=r"^demonstrated: expected shape \[2\]"):
        state_matching(zeros, zeros[:1], divergence=JENSEN_SHANNON)
    mask = Trajectory(ABSENT, ABSENT, jnp.ones((1, 2), bool), ABSENT, ABSENT, ABSENT)
    with pytest.raises(InputError, match=r"^temperature: expected a number in \(0"):
        f_irl(
            zeros[None], mask, logit=zeros[None], divergence=JENSEN_SHANNON, temperature=0.0
        )  # fmt: skip
