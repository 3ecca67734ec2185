"""Methods that sample beside the policy, on a bandit whose optima are known.

A completion is one token, an arm. Expectations over pairs of arms are exact in the first
half; in the second, `train_online` samples. What each method should come to is computed in NumPy,
float64, without its code.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import root

from irl_jax.losses.direct import dpo
from irl_jax.losses.direct_variants import xpo
from irl_jax.losses.policy import reinforce
from irl_jax.losses.ratio import k2
from irl_jax.rewards.contract import of_group
from irl_jax.rollout.opponents import with_opponents
from irl_jax.rollout.pairs import sampled_pair
from irl_jax.train.objectives import Extended
from irl_jax.train.online import train_online
from irl_jax.train.prepare import exploring_pair, nash_md, remax, self_play
from irl_jax.train.state import init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import Group

N, BETA, TAU, SHARE, ALPHA = 4, 0.5, 0.2, 0.25, 0.04
REWARD = np.array([1.0, 0.4, 0.0, -0.5])
REF = np.log(np.array([0.1, 0.4, 0.2, 0.3]))
sigmoid = lambda x: 1 / (1 + np.exp(-x))
# each of the first three arms beats the next, by different stakes; the last loses to all
WIN = np.array(
    [[0.5, 0.9, 0.25, 0.6], [0.1, 0.5, 0.8, 0.7], [0.75, 0.2, 0.5, 0.6], [0.4, 0.3, 0.4, 0.5]]
)
PAIRS = np.array([*itertools.product(range(N), repeat=2)])


def normal(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def rest_of_play(share):
    """π ∝ π_ref exp(P(y ≻ π_α)/τ) with π_α ∝ π^(1−α) π_ref^α; at α = 0 the Nash equilibrium."""
    policy = normal(REF)
    for _ in range(4000):
        opponent = normal((1 - share) * np.log(policy) + share * REF)
        policy = normal(0.9 * np.log(policy) + 0.1 * (REF + WIN @ opponent / TAU))
    return policy


NASH, DAMPED = rest_of_play(0.0), rest_of_play(SHARE)


def test_nobody_gains_by_leaving_the_equilibrium():
    """And no reward would have led there: its ratios are not of a Bradley-Terry model."""
    np.testing.assert_allclose(WIN + WIN.T, 1.0)
    worth = lambda policy: policy @ WIN @ NASH - TAU * policy @ (np.log(policy) - REF)
    for other in np.random.default_rng(0).dirichlet(np.ones(N), 2000):
        assert worth(other) <= worth(NASH) + 1e-12
    assert np.abs(NASH - DAMPED).max() > 0.02
    assert np.abs(NASH - normal(REF)).max() > 0.1


def arms(action, logp, reward):
    """A group of one-token completions; logp f32[N] is the policy's."""
    mask = jnp.ones([*action.shape, 1], bool)
    zeros = jnp.zeros(action.shape, jnp.float32) + reward
    return Group(None, action[..., None], mask, logp[action][..., None], zeros, mask[..., 0])


def prefer(own, opponents):
    """P(y ≻ y') by the table: no rewards have it."""
    win = jnp.asarray(WIN, jnp.float32)
    return win[own.action, opponents.action[:, None, :, 0]]


def play(logits, share):
    """The expected loss of Nash-MD where its opponent is mixed with this share of the reference."""
    logp, ref = jax.nn.log_softmax(logits), jnp.asarray(REF, jnp.float32)
    now = jax.lax.stop_gradient(logp)
    opponent = jax.nn.log_softmax((1 - share) * now + share * ref)
    group = arms(jnp.asarray(PAIRS), now, 0.0)
    batch = nash_md(group, ref[group.action], opponents=1, tau=TAU, prefer=prefer)
    one = lambda logp, group, advantage: (
        (
            reinforce(logp[None], jax.tree.map(lambda x: x[None], group), advantage=advantage[None])
        ).mean
    )
    loss = jax.vmap(one)(logp[batch.group.action], batch.group, batch.advantage)
    return (jnp.exp(now[PAIRS[:, 0]] + opponent[PAIRS[:, 1]]) * loss).sum()


@pytest.fixture(scope="module")
def players():
    """Policies after exact updates: self-play, a fixed share, one that falls."""

    def update(t, logits):
        shares = jnp.array([0.0, SHARE, 1.0]).at[2].set(2.0 / (t / 20 + 2.0))
        return logits - 1.0 * jax.vmap(jax.grad(play))(logits, shares)

    start = jnp.tile(jnp.asarray(REF, jnp.float32), (3, 1))
    return jax.nn.softmax(jax.jit(partial(jax.lax.fori_loop, 0, 6000, update))(start))


def test_self_play_comes_to_the_nash_equilibrium(players):
    np.testing.assert_allclose(players[0], NASH, atol=1e-4)


def test_a_rival_mixed_with_the_reference_moves_where_play_rests(players):
    np.testing.assert_allclose(players[1], DAMPED, atol=1e-4)


def test_with_a_share_that_falls_nash_md_comes_to_the_nash_equilibrium(players):
    np.testing.assert_allclose(players[2], NASH, atol=5e-3)


def test_remax_has_the_gradient_of_the_expected_reward():
    """d/dθ E[r] = π (r − E[r]); the greedy completion, whatever it is, adds nothing to it."""
    logits = jnp.array([0.3, -0.2, 0.9, 0.1])
    reward = jnp.asarray(REWARD, jnp.float32)
    now = jax.nn.log_softmax(logits)

    def loss(logits, greedy):
        action = jnp.stack([jnp.arange(N), jnp.full(N, greedy)], axis=1)
        batch = remax(arms(action, now, reward[action]))
        assert batch.group.action.shape == (N, 1, 1)
        logp = jax.nn.log_softmax(logits)[batch.group.action]
        one = lambda logp, group, advantage: (
            (
                reinforce(
                    logp[None], jax.tree.map(lambda x: x[None], group), advantage=advantage[None]
                )
            ).mean
        )
        each = jax.vmap(one)(logp, batch.group, batch.advantage)
        return (jnp.exp(now) * each).sum(), batch.advantage

    policy = normal(np.float64(logits))
    for greedy in (2, 3):
        slope, advantage = jax.grad(loss, has_aux=True)(logits, greedy)
        np.testing.assert_allclose(slope, -policy * (REWARD - policy @ REWARD), atol=1e-6)
        np.testing.assert_allclose(advantage[:, 0], REWARD - REWARD[greedy], atol=1e-6)


def test_a_pair_that_explores_says_which_side_is_the_references():
    action = jnp.tile(jnp.array([[2, 0]]), (64, 1))
    group = arms(action, jnp.asarray(REF, jnp.float32), jnp.zeros((64, 2)))
    batch = exploring_pair(group, jax.random.key(0))
    np.testing.assert_array_equal(batch.keywords["explore"], batch.batch.action[..., 0] == 0)
    assert 0 < batch.keywords["explore"][:, 0].sum() < 64


def test_self_play_tells_what_the_pair_wins_against_all():
    reward = jnp.array([[0.5, 2.0, -1.0], [1.0, 1.0, 1.0]])
    group = arms(jnp.array([[3, 1, 2], [0, 1, 2]]), jnp.asarray(REF, jnp.float32), reward)
    batch = self_play(group)
    assert batch.batch.action[0, :, 0].tolist() == [1, 2]
    assert batch.batch.weight.tolist() == [1, 0]
    best = (sigmoid(1.5) + 0.5 + sigmoid(3.0)) / 3
    worst = (sigmoid(-1.5) + sigmoid(-3.0) + 0.5) / 3
    np.testing.assert_allclose(batch.keywords["win"], [[best, worst], [0.5, 0.5]], rtol=1e-6)


def test_log_probs_of_all_or_of_the_own_completions_are_the_same():
    group = arms(
        jnp.array([[0, 1, 2]]), jnp.asarray(REF, jnp.float32), jnp.array([[1.0, 0.0, 2.0]])
    )
    ref = jnp.array([[[-1.0], [-2.0], [-3.0]]])
    few, many = (nash_md(group, x, opponents=1, tau=0.5) for x in (ref[:, :2], ref))
    jax.tree.map(np.testing.assert_array_equal, few, many)
    ratio = REF[:2] - np.array([-1.0, -2.0])
    wins = sigmoid(np.array([1.0, 0.0]) - 2.0)
    np.testing.assert_allclose(few.advantage[0], wins - 0.5 - 0.5 * ratio, rtol=1e-5)
    np.testing.assert_array_equal(remax(group, ref).ref_logp, ref[:, :2])


# through the online loop, sampled

STEPS = 300
KNOWN = normal(REF + REWARD / BETA)
optimiser = lambda steps: optax.adam(optax.cosine_decay_schedule(0.1, steps))


def draw(scores, prompts, key, count):
    logp = jax.nn.log_softmax(scores)
    action = jax.random.categorical(key, logp, shape=(len(prompts), count))
    return arms(action, logp, 0.0)


def own(count):
    return jax.jit(lambda params, prompts, key: draw(params, prompts, key, count))


@jax.jit
def greedy(params, prompts, key):
    return arms(jnp.full((len(prompts), 1), params.argmax()), params, 0.0)


@jax.jit
def of_the_reference(params, prompts, key):
    return draw(jnp.asarray(REF, jnp.float32), prompts, key, 1)


@jax.jit
def mixture(params, prompts, key):
    scores = (1 - SHARE) * jax.nn.log_softmax(params) + SHARE * jnp.asarray(REF, jnp.float32)
    return draw(scores, prompts, key, 2)


def of_pairs(loss):
    """`direct_objective` of a table of logits."""

    def objective(params, batch, key):
        keywords = {}
        if isinstance(batch, Extended):
            batch, keywords = batch.batch, batch.keywords
        tables = jax.nn.log_softmax(params), jnp.asarray(REF, jnp.float32)
        return loss(*(x[batch.action] for x in tables), batch, **keywords)

    return objective


def of_samples(loss):
    """`policy_objective` of a table of logits."""

    def objective(params, batch, key):
        logp = jax.nn.log_softmax(params)[batch.group.action]
        return loss(logp, batch.group, advantage=batch.advantage, ref_logp=batch.ref_logp)

    return objective


def drawing(pairs):
    """A `prepare` of what draws with a key."""
    return lambda group, context: pairs(group, context.key)


def ref_of(group):
    return jnp.asarray(REF, jnp.float32)[group.action]


def xpo_rest():
    """Where the expected gradient of XPO is 0; the pair is (a ~ π, b ~ π_ref).

    h = β (log π/π_ref (a) − log π/π_ref (b)) is labelled σ(r(a) − r(b)); and α log π(b).
    """
    label = sigmoid(REWARD[:, None] - REWARD)

    def gradient(free):
        logits = np.append(free, 0.0)
        policy, score = normal(logits), BETA * (logits - REF)
        gap = np.outer(policy, np.exp(REF)) * (sigmoid(score[:, None] - score) - label)
        slope = BETA * (gap.sum(1) - gap.sum(0)) + ALPHA * (np.exp(REF) - policy)
        return slope[:-1]

    found = root(gradient, np.zeros(N - 1), tol=1e-12)
    assert found.success
    return normal(np.append(found.x, 0.0))


METHODS = {  # name -> (rollout, prepare, objective, where it comes to rest, prompts)
    "ReMax": (
        with_opponents(own(4), greedy),
        of_group(lambda group: remax(group, ref_of(group))),
        of_samples(partial(reinforce, beta=BETA, kl=k2)),
        KNOWN,
        512,
    ),
    "online DPO": (own(2), drawing(sampled_pair), of_pairs(partial(dpo, beta=BETA)), KNOWN, 4096),
    "XPO": (
        with_opponents(own(1), of_the_reference),
        drawing(exploring_pair),
        of_pairs(partial(xpo, beta=BETA, alpha=ALPHA)),
        xpo_rest(),
        4096,
    ),
    "Nash-MD": (
        with_opponents(own(2), mixture),
        of_group(lambda group: nash_md(group, ref_of(group), opponents=2, tau=TAU, prefer=prefer)),
        of_samples(reinforce),
        DAMPED,
        2048,
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_through_the_loop_a_method_comes_to_its_optimum(name):
    rollout, prepare, objective, rest, prompts = METHODS[name]
    tx = optimiser(STEPS)
    state = init_state(jnp.asarray(REF, jnp.float32), tx, jax.random.key(0))
    reward = jax.jit(lambda group: jnp.asarray(REWARD, jnp.float32)[group.action[..., 0]])
    state = train_online(
        jax.jit(make_train_step(objective, tx)),
        state,
        itertools.repeat(np.zeros(prompts)),
        rollout=jax.jit(rollout),
        reward=of_group(reward),
        prepare=jax.jit(prepare),
        steps=STEPS,
    )
    np.testing.assert_allclose(jax.nn.softmax(state.params), rest, atol=1e-2)
    assert np.abs(rest - normal(REF)).max() > 0.05
