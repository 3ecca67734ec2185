"""Classic control against Gymnasium, step by step in float64."""

import functools
from dataclasses import replace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.envs.control import acrobot, cartpole, mountain_car, pendulum
from irl_jax.envs.environment import Environment, discrete_actions, fixed_horizon, standardized
from irl_jax.envs.exploration import bit_flip
from irl_jax.types import InputError

# name of Gymnasium's -> ours, and by how much states may be off the centre
PAIRS = {
    "CartPole-v1": (cartpole, [2.5, 3.0, 0.22, 3.0]),
    "MountainCar-v0": (mountain_car, [0.9, 0.07]),
    "Acrobot-v1": (acrobot, [3.14, 3.14, 12.0, 28.0]),
    "Pendulum-v1": (pendulum, [10.0, 8.0]),
}
CENTRE = {"MountainCar-v0": [-0.3, 0.0]}
every_pair = pytest.mark.parametrize("name", PAIRS)


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def stepping(make) -> tuple[Environment, ...]:
    """The environment, and its three functions, jitted."""
    env = make()
    return env, jax.jit(env.reset), jax.jit(env.step), jax.jit(env.observe)


def random_actions(env: Environment, rng: np.random.Generator, size: int) -> np.ndarray:
    if isinstance(env.action, int):
        return rng.integers(env.action, size=size)
    return rng.uniform(-3, 3, (size, *env.action))  # beyond what is clipped


@every_pair
def test_every_step_is_gymnasiums(name):
    """From random states, in and out of what is allowed: a step has no memory to make up for."""
    make, spread = PAIRS[name]
    env, _, step, observe = stepping(make)
    theirs, rng = gymnasium.make(name).unwrapped, np.random.default_rng(0)
    theirs.reset(seed=0)
    actions, ended = random_actions(env, rng, 300), 0
    for action in actions:
        state = CENTRE.get(name, 0.0) + rng.uniform(-1, 1, len(spread)) * spread
        theirs.state, theirs.steps_beyond_terminated = state.copy(), None
        seen, reward, terminated, _, _ = theirs.step(action)
        after, earned, over = step(state, action, None)
        np.testing.assert_allclose(after, theirs.state, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(observe(after), seen, rtol=1e-6, atol=1e-6)  # theirs is float32
        assert float(earned) == pytest.approx(float(reward), rel=1e-12, abs=1e-12)
        assert bool(over) == terminated
        ended += terminated
    assert ended > 10 or name == "Pendulum-v1"


@every_pair
def test_whole_episodes_are_gymnasiums_and_so_are_limits_and_spaces(name):
    env, reset, step, observe = stepping(PAIRS[name][0])
    theirs, rng = gymnasium.make(name), np.random.default_rng(1)
    assert env.time_limit == theirs.spec.max_episode_steps
    assert env.observation == theirs.observation_space.shape
    wanted = theirs.action_space
    assert env.action == (wanted.n if isinstance(env.action, int) else wanted.shape)
    theirs.reset(seed=0)
    state = reset(jax.random.key(0))
    theirs.unwrapped.state = np.asarray(state)
    for action in random_actions(env, rng, 40):  # chaos makes of 1e-16 what it likes, later
        state, earned, over = step(state, action, None)
        seen, reward, terminated, _, _ = theirs.step(action)
        np.testing.assert_allclose(observe(state), seen, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(earned, reward, rtol=1e-9)
        assert bool(over) == terminated
        if terminated:
            break


@every_pair
def test_episodes_begin_where_gymnasiums_do(name):
    """The mean, the least and the most of 2,000 each, but for the noise of the most."""
    _, reset, _, _ = stepping(PAIRS[name][0])
    theirs = gymnasium.make(name).unwrapped
    theirs.reset(seed=0)
    their = np.array([(theirs.reset(), np.asarray(theirs.state, float))[1] for _ in range(2000)])
    ours = np.asarray(jax.vmap(reset)(jax.random.split(jax.random.key(0), 2000)))
    width = np.ptp(their, 0)
    for of in (np.mean, np.min, np.max):
        assert (np.abs(of(ours, 0) - of(their, 0)) <= 0.04 * width).all()


def test_a_pendulum_of_few_torques_is_pushed_by_them():
    torques = [[-2.0], [0.5], [2.0]]
    few, many = discrete_actions(pendulum(), torques), pendulum()
    state = jnp.array([0.3, -1.0])
    assert few.action == 3 and few.observation == many.observation
    for index, torque in enumerate(torques):
        got, want = few.step(state, index, None), many.step(state, jnp.array(torque), None)
        np.testing.assert_array_equal(got.state, want.state)
        assert float(got.reward) == float(want.reward)


@pytest.mark.parametrize("make", [cartpole, mountain_car, acrobot, lambda: bit_flip(3)])
def test_of_a_fixed_horizon_everything_is_the_same_until_the_end_and_nothing_after_it(make):
    """Many random episodes; where one has ended the state rests and earns 0."""
    env, steps, episodes = make(), 60, 64
    fixed = fixed_horizon(env)
    assert (fixed.observation, fixed.time_limit) == ((env.observation[0] + 1,), env.time_limit)

    def episode(key):
        begin = {4: 3 * env.reset(key), 2: jnp.array([0.3, 0.02])}  # about to fall, to arrive
        begin[6] = jnp.array([1.5, 0.3, 2.0, 1.0]) if env.time_limit == 500 else env.reset(key)
        state = begin[env.observation[0]]

        def both(carry, key):
            (plain, over), held = carry
            action = jax.random.randint(key, (), 0, env.action)
            to, at = env.step(plain, action, key), fixed.step(held, action, key)
            after = over | to.terminated
            flag = jnp.zeros(fixed.observation).at[-1].set(1.0)
            seen = jnp.where(after, flag, jnp.append(env.observe(to.state), 0.0))
            same = jnp.allclose(seen, fixed.observe(at.state), rtol=1e-9, atol=1e-9)
            same &= at.reward == jnp.where(over, 0.0, to.reward)
            return ((to.state, after), at.state), (same, at.terminated, after)

        held = fixed.reset(key)._replace(state=state)
        return jax.lax.scan(both, ((state, False), held), jax.random.split(key, steps))[1]

    same, terminated, over = jax.jit(jax.vmap(episode))(
        jax.random.split(jax.random.key(1), episodes)
    )
    assert same.all() and not terminated.any()
    assert over[:, -1].sum() > 5 and not over[:, 0].all()


def test_standardized_observations_are_those_of_the_same_states():
    env, state = mountain_car(), jnp.array([-0.5, 0.02])
    seen = standardized(env, jnp.array([-0.4, 0.0]), jnp.array([0.2, 0.01]))
    np.testing.assert_allclose(seen.observe(state), [-0.5, 2.0], rtol=1e-6)
    np.testing.assert_array_equal(seen.step(state, 2, None).state, env.step(state, 2, None).state)


def test_bits_are_flipped_until_they_are_the_goal():
    env = bit_flip(3)
    state = jnp.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.0])
    away = env.step(state, 2, None)
    assert away.state.tolist() == [1, 0, 1, 1, 1, 0]
    assert (float(away.reward), bool(away.terminated)) == (-1.0, False)
    assert env.step(state, 0, None).state.tolist() == [0, 0, 0, 1, 1, 0]
    there = env.step(state, 1, None)
    assert (float(there.reward), bool(there.terminated)) == (0.0, True)
    drawn = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 400))
    assert len(np.unique(drawn, axis=0)) == 64
    assert (env.action, env.observation, env.time_limit) == (3, (6,), 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: discrete_actions(pendulum(), [[1.0, 2.0]]), "actions: expected"),
        (lambda: discrete_actions(cartpole(), [[1.0]]), "actions: expected"),
        (lambda: bit_flip(0), "bits"),
        (lambda: standardized(replace(cartpole(), observation=3), 0, 1), "observation: an index"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
