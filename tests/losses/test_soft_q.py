"""A soft Q tells a policy and a reward: against planning in small processes, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.planning import expected_next, infinite_horizon, occupancy
from irl_jax.dynamics.returns import next_value
from irl_jax.envs.tabular import as_environment
from irl_jax.losses.demonstration import nll
from irl_jax.losses.soft_q import (
    STEEPEST,
    iq_learn,
    iq_learn_lm,
    iq_learn_online,
    phi_chi_square,
    phi_forward_kl,
    phi_hellinger,
    phi_jensen_shannon,
    phi_reverse_kl,
    phi_total_variation,
    sqil,
)
from irl_jax.rollout.unroll import begin, unroll
from irl_jax.types import Demonstration, InputError, Rating, Trajectory
from tests.losses.tabular import DISCOUNT, A, S, expert, newton, process, ring, share
from tests.oracles.language import Language
from tests.oracles.losses import F_GAN

ABSENT = None
PHIS = {
    phi_chi_square(1.0): "Pearson chi-squared",
    phi_forward_kl: "reverse KL",
    phi_reverse_kl: "KL",
    phi_hellinger: "squared Hellinger",
    phi_jensen_shannon: "Jensen-Shannon",
}  # f of D_f(ρ_π‖ρ_E), as F_GAN has it for D_f(p‖q)
LEVEL = {phi_forward_kl: 1.0, phi_reverse_kl: -1.0}  # rewards at which φ′ = 1; elsewhere 0
no_penalty = lambda x: x


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def trajectories(mask):
    return Trajectory(ABSENT, ABSENT, mask, ABSENT, ABSENT, ABSENT)


def soft_value(q):
    return jax.nn.logsumexp(q, axis=-1)


def draw_reward(seed=1):
    return jax.random.normal(jax.random.key(seed), (S, A))


@pytest.mark.parametrize("end_value", [0.0, -3.0])
def test_planning_and_back_is_the_reward_in_a_stream_of_episodes(end_value):
    """Where an episode ends, worth `end_value`, is cut or goes on."""
    mdp, reward = ring(ends=True), draw_reward() - 2.0 + end_value / 10
    plan = infinite_horizon(mdp, reward.at[2, 1].add(end_value), tolerance=1e-13)

    def act(state, key):
        action = jax.random.categorical(key, plan.logp[state])
        return action, plan.logp[state, action]

    env = as_environment(mdp, reward, time_limit=4)
    running = begin(env, jax.random.key(4), 8)
    batch = unroll(env, act, running, jax.random.key(5), steps=21, discount=DISCOUNT)[1]
    cut, ended = ~batch.mask, batch.mask & (batch.discount == 0)
    assert cut.sum() > 5 and ended.sum() > 5 and (batch.discount[:, -1] > 0).any()
    following = next_value(
        plan.value[batch.context], batch.mask, discount=batch.discount,
        final_value=plan.value[batch.final], end_value=end_value,
    )  # fmt: skip
    got = (plan.q[batch.context, batch.action] - following)[batch.mask]
    np.testing.assert_allclose(got, batch.reward[batch.mask], rtol=1e-9)


def exact(mdp, demonstrated, phi):
    """Q -> the loss of an endless number of demonstrations, their transitions taken in the mean."""

    def loss(q):
        value = soft_value(q)
        parts = jnp.broadcast_to(value[:, None], q.shape), expected_next(mdp, value)
        rows = [x.reshape(-1, 1, 1) for x in (q, *parts)]
        one = lambda *row: iq_learn(*row, trajectories(jnp.ones((1, 1), bool)), phi=phi).mean
        return jax.vmap(one)(*rows) @ demonstrated

    return loss


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("phi", PHIS, ids=PHIS.values())
def test_at_the_optimum_the_slope_of_phi_is_the_ratio_of_occupancies(phi, ends):
    """Garg et al. 2021: a saddle point; where the policy differs from the expert, rewards do."""
    mdp = process(ends=ends)
    _, logp = expert(mdp, draw_reward())
    visits = occupancy(mdp, logp)
    objective = exact(mdp, share(visits), phi)
    first = infinite_horizon(mdp, jnp.full((S, A), LEVEL.get(phi, 0.0))).q
    q = newton(lambda x: objective(x.reshape(S, A)), first.reshape(-1)).reshape(S, A)
    reward = q - expected_next(mdp, soft_value(q))
    own = occupancy(mdp, jax.nn.log_softmax(q))
    slope = jax.vmap(jax.grad(phi))(reward.reshape(-1)).reshape(S, A)
    np.testing.assert_allclose(slope, own / visits, rtol=1e-7)
    assert np.abs(slope - 1).max() > 0.05
    assert -(own * jax.nn.log_softmax(q)).sum() > -(visits * logp).sum()  # entropy


@pytest.mark.parametrize("ends", [False, True])
def test_without_a_penalty_the_optimum_is_the_expert(ends):
    mdp = process(ends=ends)
    _, logp = expert(mdp, draw_reward())
    objective = exact(mdp, share(occupancy(mdp, logp)), no_penalty)
    q = newton(lambda x: objective(x.reshape(S, A)), 0.1 * draw_reward(3).reshape(-1))
    np.testing.assert_allclose(jax.nn.log_softmax(q.reshape(S, A)), logp, atol=1e-7)


def test_of_a_language_model_it_is_the_likelihood_and_a_square_of_rewards():
    """γ = 1 and every context leads to one other: V(s) − γ V(s′) and Q − γ V(s′) leave log π."""
    b, t, vocabulary, alpha = 3, 4, 5, 0.5
    logits = jax.random.normal(jax.random.key(0), (b, t, vocabulary))
    tokens = jax.random.randint(jax.random.key(1), (b, t), 0, vocabulary)
    mask = jnp.arange(t) < jnp.array([4, 2, 1])[:, None]

    taken = lambda x: jnp.take_along_axis(x, tokens[..., None], axis=-1)[..., 0]

    def loss(logits, phi):
        q = taken(logits)
        value = soft_value(logits)
        following = next_value(value, mask, discount=1.0)
        return iq_learn(q, value, following, trajectories(mask), phi=phi).mean, q - following

    def likelihood(logits):
        logp = taken(jax.nn.log_softmax(logits))
        return nll(logp, Demonstration(tokens, mask, mask.astype(int))).mean

    of = jax.value_and_grad(lambda x: loss(x, no_penalty)[0])
    for got, expected in zip(of(logits), jax.value_and_grad(likelihood)(logits), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12)
    total, reward = loss(logits, phi_chi_square(alpha))
    square = np.mean(np.square(reward)[mask]) / (4 * alpha)
    assert float(total) == pytest.approx(float(likelihood(logits)) + square, rel=1e-12)


def rows(language):
    """The completions of a language as demonstrations."""
    mask = jnp.asarray(language.mask)
    return Demonstration(jnp.asarray(language.action), mask, mask.astype(int))


def test_without_rewards_it_is_the_likelihood_to_the_bit():
    batch = rows(Language(3, 3))
    q, value = jax.random.normal(jax.random.key(0), (2, *batch.mask.shape), jnp.float32)
    likelihood = jax.jit(lambda q, value: nll(q - value, batch).mean)
    soft = jax.jit(lambda q, value: iq_learn_lm(q, value, batch, lam=0.0, discount=1.0).mean)
    assert soft(q, value) == likelihood(q, value)
    gradients = [jax.jit(jax.grad(f, argnums=(0, 1)))(q, value) for f in (soft, likelihood)]
    for got, expected in zip(*gradients, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_of_one_segment_a_row_it_is_that_of_chi_square():
    batch = rows(Language(3, 3))
    q, value = jax.random.normal(jax.random.key(0), (2, *batch.mask.shape))
    following = next_value(value, batch.mask, discount=0.9)
    phi = phi_chi_square(1 / (4 * 0.3))
    expected = iq_learn(q, value, following, trajectories(batch.mask), phi=phi)
    got = iq_learn_lm(q, value, batch, lam=0.3, discount=0.9)
    np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(got.metrics["reward"], expected.metrics["reward"], rtol=1e-12)


@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_at_the_optimum_of_a_language_rewards_are_ratios_of_occupancies(discount):
    """1 − 2 λ r = ρ_π/ρ_E at every prefix and symbol; the policy is more random than the expert."""
    language, lam = Language(3, 2), 0.3
    demonstrated = language.draw(1)
    chance, batch = jnp.asarray(language.chance(demonstrated)), rows(language)

    def objective(q):
        q = q.reshape(language.shape)
        own, value = q[language.state, language.action], soft_value(q)[language.state]
        one = lambda row: iq_learn_lm(*row[:2], Demonstration(*row[2:]), lam=lam, discount=discount)
        each = (x[:, None] for x in (own, value, batch.tokens, batch.mask, batch.segment))
        return chance @ jax.vmap(lambda *row: one(row).total)(*each)

    q = newton(objective, 0.1 * language.draw(2).reshape(-1)).reshape(language.shape)
    value, policy = soft_value(q), np.asarray(jax.nn.softmax(q))
    visits, own = np.zeros(language.shape), np.zeros(language.shape)
    came = np.zeros(len(q))  # as often as the policy comes to a prefix by itself
    came[0] = 1.0
    places = [(language.state[i, t], language.action[i, t], language.after[i, t], chance[i])
              for t in range(2) for i in range(len(chance)) if language.mask[i, t]]  # fmt: skip
    for s, a, _, p in places:
        visits[s, a] += p
    shorter_first = dict.fromkeys((s, a, then) for s, a, then, _ in places)
    for s, a, then in shorter_first:
        own[s, a] = policy[s, a] * ((1 - discount) * visits[s].sum() + discount * came[s])
        if then >= 0:
            came[then] = own[s, a]
        reward = q[s, a] - (discount * value[then] if then >= 0 else 0.0)
        np.testing.assert_allclose(1 - 2 * lam * reward, own[s, a] / visits[s, a], rtol=1e-6)
    entropy = lambda p: -(p * np.log(p)).sum()
    assert entropy(language.chance(np.asarray(q))) > entropy(np.asarray(chance)) + 0.01


def both_sides(first, second):
    """Every state and action as a demonstration and as a sample, as likely as they are."""
    weight = jnp.concatenate([share(first), share(second)])
    score = jnp.repeat(jnp.array([1.0, 0.0]), S * A)
    return Rating(ABSENT, ABSENT, ABSENT, score=score, weight=weight)


def twice(*arrays):
    return [jnp.tile(x.reshape(-1), 2) for x in arrays]


def test_with_samples_the_best_reward_is_a_bounded_ratio():
    """Al-Hafez et al. 2023: ρ_E − ρ_π over their mixture, whoever the samples are from."""
    mdp, alpha = process(ends=False), 0.3
    _, logp = expert(mdp, draw_reward())
    visits = occupancy(mdp, logp)
    samples = occupancy(mdp, jax.nn.log_softmax(draw_reward(2)))
    batch = both_sides(visits, samples)

    def objective(x):
        q = x.reshape(S, A)
        value = soft_value(q)
        arrays = q, jnp.broadcast_to(value[:, None], q.shape), expected_next(mdp, value)
        return iq_learn_online(*twice(*arrays), batch, alpha=alpha).mean

    q = newton(objective, jnp.zeros(S * A)).reshape(S, A)
    reward = q - expected_next(mdp, soft_value(q))
    own = occupancy(mdp, jax.nn.log_softmax(q))
    expected = 2 * alpha * (visits - own) / (0.5 * visits + 0.5 * samples)
    np.testing.assert_allclose(reward, expected, rtol=1e-7, atol=1e-9)
    assert np.abs(reward).max() > 0.1


@pytest.mark.parametrize("ends", [False, True])
def test_soft_q_imitation_rests_where_the_reward_is_the_share_of_demonstrations(ends):
    """Soft Q-learning of Reddy et al. 2019, its target held: Q = r̄ + γ E V at every (s, a)."""
    mdp = process(ends=ends)
    _, logp = expert(mdp, draw_reward())
    samples = occupancy(mdp, jax.nn.log_softmax(draw_reward(2)))
    batch = both_sides(occupancy(mdp, logp), samples)
    demonstrated, sampled = np.split(np.asarray(batch.weight), 2)
    chance = demonstrated / (demonstrated + sampled)
    plan = infinite_horizon(mdp, jnp.asarray(chance.reshape(S, A)), tolerance=1e-13)

    def loss(q):
        following = jax.lax.stop_gradient(expected_next(mdp, soft_value(q)))
        return sqil(*twice(q, following), batch).mean

    value, slope = jax.value_and_grad(loss)(plan.q)
    np.testing.assert_allclose(slope, 0.0, atol=1e-12)
    spread = demonstrated * (1 - chance) ** 2 + sampled * chance**2
    assert float(value) == pytest.approx(spread.sum() / 2, rel=1e-10)
    assert np.abs(jax.grad(loss)(plan.q + 0.1)).max() > 1e-4


def least(x, f, high):
    """min t x + f(t) over 0 < t <= high, convex in t, by a golden section."""
    low, ratio = 1e-12, (5**0.5 - 1) / 2
    cost = lambda t: t * x + f(t)
    for _ in range(100):
        one, two = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, two) if cost(one) < cost(two) else (one, high)
    return cost(high)


@pytest.mark.parametrize("phi", [*PHIS, phi_total_variation], ids=[*PHIS.values(), "total"])
def test_phi_is_the_conjugate_of_its_divergence_with_ratios_up_to_the_steepest(phi):
    f = F_GAN[PHIS[phi]][0] if phi in PHIS else (lambda t: abs(t - 1) / 2)
    square = PHIS.get(phi) == "Pearson chi-squared"  # of any slope
    for x in np.linspace(-4.0, 1.9, 60):
        high = 2 * STEEPEST if square else STEEPEST
        assert float(phi(jnp.asarray(x))) == pytest.approx(least(x, f, high), abs=1e-9)


def test_bad_input():
    batch = Rating(ABSENT, ABSENT, ABSENT, score=jnp.ones(2), weight=jnp.ones(2))
    with pytest.raises(InputError, match=r"^alpha: expected a number in \(0"):
        iq_learn_online(*[jnp.zeros(2)] * 3, batch, alpha=0.0)
    with pytest.raises(InputError, match=r"^alpha: expected a number in \(0"):
        phi_chi_square(-1.0)
