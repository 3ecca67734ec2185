"""ValueDICE: in a process without ends the policy whose occupancy is the expert's is the expert."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.planning import infinite_horizon
from irl_jax.envs.control import pendulum
from irl_jax.envs.tabular import as_environment, random_mdp
from irl_jax.models.actor_critic import action_logp
from irl_jax.recipes.value_dice import ValueDICEConfig, make_value_dice
from irl_jax.rollout.unroll import begin, unroll
from irl_jax.types import InputError

STATES, DISCOUNT = 3, 0.8
MDP = random_mdp(jax.random.key(0), STATES, 2, discount=DISCOUNT)
EXPERT = infinite_horizon(MDP, jnp.array([[0.0, 1.5], [1.0, 0.0], [0.0, 0.3]]))
ENV = as_environment(MDP)
CONFIG = ValueDICEConfig(
    updates=4000, batch_size=256, learning_rate=1e-2, policy_learning_rate=1e-3,
    discount=DISCOUNT, penalty=0.0, widths=(16,),
)  # fmt: skip


def shown(steps=1000):
    def act(state, key):
        action = jax.random.categorical(key, EXPERT.logp[state])
        return action, EXPERT.logp[state, action]

    running = begin(ENV, jax.random.key(1), 4)
    run = lambda key: unroll(ENV, act, running, key, steps=steps, discount=DISCOUNT)[1]
    return jax.jit(run)(jax.random.key(2))


def test_the_policy_comes_to_be_the_experts():
    trained = jax.jit(make_value_dice(ENV, shown(), CONFIG))(jax.random.key(3))
    every = jnp.arange(STATES)[:, None].repeat(2, 1), jnp.arange(2)[None].repeat(STATES, 0)
    found = np.exp(action_logp(trained.params, *every))
    assert np.abs(np.exp(EXPERT.logp) - 0.5).max() > 0.2
    np.testing.assert_allclose(found, np.exp(EXPERT.logp), atol=0.12)
    # L = -KL of the occupancies, and so 0 there; it began below
    assert abs(float(trained.metrics["bound"][-500:].mean())) < 0.01
    assert float(trained.metrics["bound"].min()) < -0.02


@pytest.mark.parametrize(
    ("env", "change", "message"),
    [
        (ENV, {"updates": 0}, "^updates"),
        (ENV, {"penalty": -1.0}, "^penalty"),
        (pendulum(), {}, "^action: a soft Q"),
    ],
)
def test_bad_settings(env, change, message):
    with pytest.raises(InputError, match=message):
        make_value_dice(env, shown(4), replace(CONFIG, **change))
