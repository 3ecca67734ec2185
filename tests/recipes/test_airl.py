"""AIRL and FAIRL: what their discriminators say, and a soft expert whose policy AIRL finds."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.planning import infinite_horizon
from irl_jax.envs.tabular import as_environment
from irl_jax.models.actor_critic import action_logp, init_actor_critic
from irl_jax.models.heads import apply_mlp
from irl_jax.recipes.control import PPOConfig, make_train
from irl_jax.recipes.imitation import (
    AIRLConfig,
    DiscriminatorConfig,
    airl_reward,
    fairl_reward,
    shaped,
    steps_of,
)
from irl_jax.rollout.unroll import begin, unroll
from irl_jax.types import InputError, TabularMDP

DISCOUNT, STATES = 0.8, 4
# a ring of four states, one step on or stay; whoever moves on from the last comes to the end
RING = TabularMDP(
    prob=jnp.ones((STATES, 2, 1)),
    start=jnp.full(STATES, 0.25),
    discount=jnp.full((STATES, 2), DISCOUNT).at[3, 1].set(0.0),
    successor=jnp.array([[[0], [1]], [[1], [2]], [[2], [3]], [[3], [0]]]),
)
EXPERT = infinite_horizon(RING, jnp.array([[0.0, 1.0], [0.5, 0.0], [0.0, 1.0], [0.0, 1.5]]))
ENV = as_environment(RING, time_limit=6)


def sampled(logp, seed, *, rows=4, steps=500):
    def act(state, key):
        action = jax.random.categorical(key, logp[state])
        return action, logp[state, action]

    running = begin(ENV, jax.random.key(seed), rows)
    run = lambda key: unroll(ENV, act, running, key, steps=steps, discount=DISCOUNT)[1]
    return jax.jit(run)(jax.random.key(seed + 1))


def policy_of(logp):
    """A table that acts by these log-probs."""
    params = init_actor_critic(jax.random.key(0), STATES, 2, ())
    params["policy"]["layer_0"] = {"kernel": jnp.asarray(logp), "bias": jnp.zeros(2)}
    return params


@pytest.mark.parametrize("actions", [False, True])
def test_logits_are_those_of_the_paper_step_by_step(actions):
    """h is 0 after an end, and that of the state at which an episode was cut."""
    batch = sampled(EXPERT.logp, 0, rows=2, steps=60)
    logp = np.log([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.3, 0.7]])
    discriminator = shaped(ENV, AIRLConfig(actions=actions, widths=(8,)))
    params = discriminator.init(jax.random.key(5))
    found = discriminator.logit(params, discriminator.read(batch, policy_of(logp)))
    one_hot = lambda *parts: np.concatenate([np.eye(n)[i] for i, n in parts]).astype(np.float32)
    h = [float(apply_mlp(params["potential"], one_hot((s, STATES)))) for s in range(STATES)]
    ended = cut = 0
    for i in range(2):
        states = [*np.asarray(batch.context[i]), int(batch.final[i])]
        for t in range(60):
            if not batch.mask[i, t]:
                continue
            s, a = states[t], int(batch.action[i, t])
            seen = one_hot((s, STATES), (a, 2)) if actions else one_hot((s, STATES))
            over = s == 3 and a == 1
            ended += over
            cut += t < 59 and not batch.mask[i, t + 1]
            v = float(apply_mlp(params["reward"], seen)) - h[s] - logp[s, a]
            v += 0.0 if over else DISCOUNT * h[states[t + 1]]
            np.testing.assert_allclose(found[60 * i + t], v, rtol=1e-4, atol=1e-5)
    assert ended > 2 and cut > 2


def test_a_discriminator_comes_to_the_log_ratio_and_f_to_the_experts_policy():
    """Against the expert itself v = 0, f = log π_E; against another policy v = log ρ_E/ρ_π."""
    shown, uniform = sampled(EXPERT.logp, 10), jnp.full((STATES, 2), jnp.log(0.5))
    config = AIRLConfig(actions=True, updates=2500, penalty=0.0, widths=(16,), learning_rate=2e-3)
    learned = airl_reward(ENV, shown, config)

    @jax.jit
    def rewards(batch, policy):
        return learned.update(learned.init(jax.random.key(1)), batch, policy)[1]

    def share(batch):
        counts = np.zeros((STATES, 2))
        np.add.at(
            counts, tuple(np.asarray(x[batch.mask]) for x in (batch.context, batch.action)), 1
        )
        return counts / counts.sum()

    for logp in (EXPERT.logp, uniform):
        batch = sampled(logp, 20)
        ratio = np.log(share(shown) / share(batch))
        v = rewards(batch, policy_of(logp))[batch.mask]
        at = tuple(np.asarray(x[batch.mask]) for x in (batch.context, batch.action))
        assert np.abs(v - ratio[at]).mean() < 0.1
    assert np.abs(ratio).max() > 0.5


def test_airl_finds_a_soft_expert():
    """PPO by f − log π, without an entropy of its own, comes to the expert's probabilities."""
    shown = sampled(EXPERT.logp, 10)
    ppo = PPOConfig(
        steps=150 * 512, environments=8, unroll=64, learning_rate=0.03, discount=DISCOUNT,
        entropy=0.0, widths=(),
    )  # fmt: skip
    config = AIRLConfig(actions=True, penalty=0.0, widths=(16,), learning_rate=3e-3)
    trained = jax.jit(make_train(ENV, ppo, airl_reward(ENV, shown, config)))(jax.random.key(3))
    every = jnp.arange(STATES)[:, None].repeat(2, 1), jnp.arange(2)[None].repeat(STATES, 0)
    found = np.exp(action_logp(trained.params, *every))
    np.testing.assert_allclose(found, np.exp(EXPERT.logp), atol=0.08)


def test_fairls_reward_is_that_of_its_discriminator():
    batch = sampled(EXPERT.logp, 10, steps=20)
    learned = fairl_reward(ENV, batch, DiscriminatorConfig(updates=3, widths=()))
    after, rewards, _ = learned.update(learned.init(jax.random.key(2)), batch, None)
    v = np.asarray(apply_mlp(after.params, steps_of(ENV, batch).features), float)
    np.testing.assert_allclose(rewards.ravel(), -v * np.exp(v), rtol=1e-4, atol=1e-6)


def test_bad_input():
    batch = sampled(EXPERT.logp, 10, steps=4)
    with pytest.raises(InputError, match=r"^batch: transitions need"):
        learned = airl_reward(ENV, replace(batch, final=None), AIRLConfig(actions=True))
        learned.update(learned.init(jax.random.key(0)), batch, policy_of(EXPERT.logp))
