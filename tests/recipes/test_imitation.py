"""GAIL: the discriminator's gradient by hand, and a policy whose imitation is measured exactly."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.planning import infinite_horizon, occupancy
from irl_jax.envs.control import cartpole
from irl_jax.envs.environment import fixed_horizon
from irl_jax.envs.tabular import as_environment, gridworld
from irl_jax.losses.divergence import gail
from irl_jax.models.heads import apply_mlp
from irl_jax.recipes.control import PPOConfig, make_train
from irl_jax.recipes.imitation import (
    GAILConfig,
    Steps,
    discriminator_objective,
    drawn,
    gail_reward,
    steps_of,
)
from irl_jax.rollout.unroll import begin, unroll
from irl_jax.types import InputError

DISCOUNT, LIMIT = 0.8, 6
GRID = gridworld(2, 3, discount=DISCOUNT, terminal=[5])
REWARD = jnp.full((6, 4), -0.1).at[5].set(1.0)
EXPERT = infinite_horizon(GRID, REWARD, temperature=None)
# whose own reward is the opposite: who learns by it comes to the opposite
ENV = fixed_horizon(as_environment(GRID, -REWARD, time_limit=LIMIT))


def demonstrated(steps=48):
    """The best policy, which rests at random once it is there."""
    logp = jnp.concatenate([EXPERT.logp, jnp.full((1, 4), -jnp.log(4.0))])

    def act(state, key):
        action = jax.random.categorical(key, logp[state])
        return action, logp[state, action]

    running = begin(ENV, jax.random.key(0), 8)
    return unroll(ENV, act, running, jax.random.key(1), steps=steps, discount=DISCOUNT)[1]


def test_a_linear_discriminators_gradient_is_that_of_the_paper():
    """∇ = −½ E_E (1 − D) φ + ½ E_π D φ + λ ∇(‖w‖ − 1)², over steps that were taken."""
    rng = np.random.default_rng(0)
    w, bias, shown = rng.normal(size=3), 0.3, rng.normal(size=3)
    sampled, weight = rng.normal(size=(5, 3)), np.array([1.0, 1.0, 0.0, 1.0, 1.0])
    params = {"layer_0": {"kernel": jnp.float32(w[:, None]), "bias": jnp.float32([bias])}}
    never = np.full(3, 50.0)
    experts = Steps(jnp.float32([never, shown, never]), jnp.float32([0.0, 2.0, 0.0]))
    own = Steps(jnp.float32(sampled), jnp.float32(weight))

    def mean(params, penalty):
        objective = discriminator_objective(penalty=penalty)
        return objective(params, own, jax.random.key(0), experts).total / 10

    d = lambda x: 1 / (1 + np.exp(-(x @ w + bias)))
    expected = -0.5 * (1 - d(shown)) * shown
    expected += 0.5 * sum(d(x) * x * one for x, one in zip(sampled, weight, strict=True)) / 5
    for penalty in (0.0, 0.7):
        norm = np.linalg.norm(w)
        steep = penalty * 2 * (norm - 1) * w / norm * 9 / 10  # weights: 5 shown, 4 taken
        found = jax.grad(mean)(params, penalty)["layer_0"]["kernel"][:, 0]
        np.testing.assert_allclose(found, expected + steep, rtol=1e-5, atol=1e-6)


def test_steps_are_drawn_by_their_weights():
    steps = Steps(jnp.arange(4.0)[:, None], jnp.array([1.0, 0.0, 2.0, 1.0]))
    found = drawn(steps, jax.random.key(0), 4000)
    assert found.features.shape == (4000, 1) and (found.weight == 1).all()
    counts = np.bincount(np.asarray(found.features[:, 0], int), minlength=4)
    expected = np.array([1000, 0, 2000, 1000])
    assert counts[1] == 0
    assert (np.abs(counts - expected) < 4.5 * np.sqrt(expected * 0.75 + 1e-9) + 1e-9).all()


def test_a_discriminator_may_read_a_few_of_the_steps():
    """Of 5 sampled steps, all alike but one that was not taken, 3 are drawn: as 3 of them."""
    params = {"layer_0": {"kernel": jnp.array([[0.7], [-0.2]]), "bias": jnp.zeros(1)}}
    shown = Steps(jnp.ones((2, 2)), jnp.ones(2))
    sampled = Steps(jnp.array([[2.0, 1.0]] * 4 + [[9.0, 9.0]]), jnp.array([1.0] * 4 + [0.0]))
    loss = lambda steps, rows: discriminator_objective(penalty=0.3, rows=rows)(
        params, steps, jax.random.key(1), shown
    )
    few, alone = loss(sampled, 3), loss(Steps(sampled.features[:3], jnp.ones(3)), None)
    np.testing.assert_allclose(few.total, alone.total, rtol=1e-6)
    assert float(few.weight) == float(alone.weight) == 6.0
    assert float(loss(sampled, None).weight) == 9.0


def test_a_reward_is_that_of_the_discriminator_after_its_updates():
    batch, config = demonstrated(), GAILConfig(b=0.3, updates=3, widths=())
    learned = gail_reward(ENV, batch, config)
    before = learned.init(jax.random.key(2))
    after, rewards, metrics = learned.update(before, batch, None)
    assert int(after.step) == 3
    x = steps_of(ENV, batch).features
    assert x.shape == (8 * 48, 7 + 4) and (np.asarray(x).sum(-1) == 2).all()
    np.testing.assert_array_equal(x[:48, :7].argmax(-1), batch.context[0])
    np.testing.assert_array_equal(x[:48, 7:].argmax(-1), batch.action[0])
    logit = apply_mlp(after.params, x).reshape(8, 48)
    np.testing.assert_allclose(rewards, gail(logit, b=0.3), rtol=1e-5)
    assert set(metrics) == {
        f"discriminator_{n}" for n in ("loss", "grad_norm", "accuracy", "slope")
    }  # fmt: skip


def test_a_policy_without_a_reward_comes_to_do_what_was_shown():
    """Measured exactly, in the process itself; all episodes last as long as each other."""
    config = PPOConfig(
        steps=60 * 256, environments=8, unroll=32, learning_rate=0.05, discount=DISCOUNT,
        entropy=0.0, widths=(),
    )  # fmt: skip
    learned = gail_reward(ENV, demonstrated(), GAILConfig(b=0.5, learning_rate=5e-3, widths=(16,)))
    trained = jax.jit(make_train(ENV, config, learned))(jax.random.key(3))
    table = trained.params["policy"]["layer_0"]
    logp = jax.nn.log_softmax(table["kernel"] + table["bias"])[:6]
    value = lambda logp: float((occupancy(GRID, logp) * REWARD).sum())
    best, uniform = (
        value(EXPERT.logp.at[5].set(-jnp.log(4.0))),
        value(jnp.full((6, 4), -jnp.log(4.0))),
    )
    assert uniform < 0.5 * best
    assert value(logp) > 0.9 * best
    assert trained.metrics["discriminator_accuracy"].shape == (60,)


@pytest.mark.parametrize(
    ("env", "config", "message"),
    [
        (ENV, GAILConfig(b=2.0), "^b: expected a number in"),
        (ENV, GAILConfig(b=0.0, updates=0), "^updates"),
        (ENV, GAILConfig(b=0.0, penalty=-1.0), "^penalty"),
        (ENV, GAILConfig(b=0.0, rows=0), "^rows"),
        (cartpole(), GAILConfig(b=0.0), r"^demonstrations.context: expected observations of shape"),
    ],
)
def test_bad_input(env, config, message):
    with pytest.raises(InputError, match=message):
        gail_reward(env, demonstrated(steps=2), config)
    batch = demonstrated(steps=2)
    with pytest.raises(InputError, match=r"^demonstrations.mask"):
        gail_reward(ENV, replace(batch, mask=batch.mask[0]), GAILConfig(b=0.0))
