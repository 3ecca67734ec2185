"""Classic control: the equations of motion, rewards and ends of Gymnasium, step by step.

Numbers are in SI units, angles in radians. States and observations have the default float type,
so that under `jax.enable_x64` they are those of Gymnasium in float64; its observations are
rounded to float32.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.envs.environment import Environment, Step


def _uniform(key: Array, high: list[float]) -> Array:
    """One number in [−h, h) for each h."""
    bound = jnp.asarray(high, float)
    return bound * jax.random.uniform(key, bound.shape, minval=-1.0)


def cartpole() -> Environment:
    """A cart is pushed left (0) or right (1) so that its pole stays up: CartPole-v1.

    Observations and states are f32[4]: position, velocity, angle of the pole, its velocity. A
    step earns 1; the episode ends when the cart is 2.4 m or the pole 12 degrees off the centre.

    Reference: Barto, Sutton & Anderson 1983, "Neuronlike adaptive elements that can solve
    difficult learning control problems"; Towers et al. 2024, "Gymnasium: A Standard Interface for
    Reinforcement Learning Environments", arXiv 2407.17032.
    """
    gravity, pole, whole, half = 9.8, 0.1, 1.1, 0.5  # m/s², kg, kg with the cart, m
    push, tau = 10.0, 0.02  # N, s
    far, tilted = 2.4, math.radians(12)

    def step(state: Array, action: Array, key: Array) -> Step:
        _, speed, angle, turn = state
        sin, cos = jnp.sin(angle), jnp.cos(angle)
        force = jnp.where(action == 1, push, -push)
        drive = (force + pole * half * turn**2 * sin) / whole
        spin = (gravity * sin - cos * drive) / (half * (4.0 / 3.0 - pole * cos**2 / whole))
        pull = drive - pole * half * spin * cos / whole
        after = state + tau * jnp.stack([speed, pull, turn, spin])
        ended = (jnp.abs(after[0]) > far) | (jnp.abs(after[2]) > tilted)
        return Step(after, jnp.ones((), state.dtype), ended)

    reset = lambda key: _uniform(key, [0.05] * 4)
    return Environment(reset, step, lambda s: s, observation=(4,), action=2, time_limit=500)


def mountain_car() -> Environment:
    """A car too weak for its hill is pushed left (0), not (1) or right (2): MountainCar-v0.

    Observations and states are f32[2]: position and velocity. A step costs 1; the episode ends
    on top of the right hill.

    Reference: Moore 1990, "Efficient memory-based learning for robot control"; Towers et al.
    2024, arXiv 2407.17032.
    """
    push, gravity, fastest, left, right, goal = 0.001, 0.0025, 0.07, -1.2, 0.6, 0.5

    def step(state: Array, action: Array, key: Array) -> Step:
        x, speed = state
        speed = speed + (action - 1) * push - gravity * jnp.cos(3 * x)
        speed = jnp.clip(speed, -fastest, fastest)
        x = jnp.clip(x + speed, left, right)
        speed = jnp.where((x == left) & (speed < 0), 0.0, speed)
        ended = (x >= goal) & (speed >= 0)
        return Step(jnp.stack([x, speed]), -jnp.ones((), state.dtype), ended)

    reset = lambda key: jnp.array([-0.5, 0.0]) + _uniform(key, [0.1, 0.0])
    return Environment(reset, step, lambda s: s, observation=(2,), action=3, time_limit=200)


def acrobot() -> Environment:
    """Two links hang from a joint; a torque of −1, 0 or 1 Nm between them swings them up.

    Acrobot-v1: states are f32[4], the angles of the first link from below and of the second from
    the first, and their velocities; observations f32[6], cosines and sines in their place. A step
    costs 1 until the tip is a link's length above the joint, which ends the episode.

    Reference: Sutton 1995, "Generalization in reinforcement learning: Successful examples using
    sparse coarse coding"; Towers et al. 2024, arXiv 2407.17032 (equations of motion of Sutton &
    Barto's book, Runge-Kutta of order 4).
    """
    gravity, dt, fastest = 9.8, 0.2, jnp.pi * jnp.array([4.0, 9.0])
    # links of 1 m and 1 kg, their centres of mass in the middle, moments of inertia 1 kg m²

    def slope(state: Array, torque: Array) -> Array:
        first, second, turn, bend = state
        sin, cos = jnp.sin(second), jnp.cos(second)
        d1 = 0.25 + (1.25 + cos) + 2.0
        d2 = (0.25 + 0.5 * cos) + 1.0
        phi2 = 0.5 * gravity * jnp.sin(first + second)
        phi1 = -0.5 * bend**2 * sin - bend * turn * sin + 1.5 * gravity * jnp.sin(first) + phi2
        bending = (torque + d2 / d1 * phi1 - 0.5 * turn**2 * sin - phi2) / (1.25 - d2**2 / d1)
        return jnp.stack([turn, bend, -(d2 * bending + phi1) / d1, bending])

    def step(state: Array, action: Array, key: Array) -> Step:
        torque = action - 1.0
        k1 = slope(state, torque)
        k2 = slope(state + dt / 2 * k1, torque)
        k3 = slope(state + dt / 2 * k2, torque)
        k4 = slope(state + dt * k3, torque)
        state = state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        angles, speeds = _wrapped(state[:2]), jnp.clip(state[2:], -fastest, fastest)
        ended = -jnp.cos(angles[0]) - jnp.cos(angles[0] + angles[1]) > 1.0
        return Step(jnp.concatenate([angles, speeds]), jnp.where(ended, 0.0, -1.0), ended)

    def observe(state: Array) -> Array:
        (a, b), speeds = state[:2], state[2:]
        return jnp.array([jnp.cos(a), jnp.sin(a), jnp.cos(b), jnp.sin(b), *speeds])

    reset = lambda key: _uniform(key, [0.1] * 4)
    return Environment(reset, step, observe, observation=(6,), action=3, time_limit=500)


def pendulum() -> Environment:
    """A pendulum is swung up and held there by a torque, f32[1] in [−2, 2] Nm: Pendulum-v1.

    States are f32[2], the angle from above and its velocity; observations f32[3], its cosine, its
    sine and the velocity. Being off, moving and torque cost; no episode terminates. A few torques
    to choose from: `discrete_actions(pendulum(), [[-2.0], [0.0], [2.0]])`.

    Reference: Towers et al. 2024, arXiv 2407.17032.
    """
    gravity, dt, strongest, fastest = 10.0, 0.05, 2.0, 8.0

    def step(state: Array, action: Array, key: Array) -> Step:
        angle, speed = state
        torque = jnp.clip(action[0], -strongest, strongest)
        cost = _wrapped(angle) ** 2 + 0.1 * speed**2 + 0.001 * torque**2
        speed = speed + (1.5 * gravity * jnp.sin(angle) + 3.0 * torque) * dt
        speed = jnp.clip(speed, -fastest, fastest)
        return Step(jnp.stack([angle + speed * dt, speed]), -cost, jnp.asarray(False))

    def observe(state: Array) -> Array:
        return jnp.stack([jnp.cos(state[0]), jnp.sin(state[0]), state[1]])

    reset = lambda key: _uniform(key, [math.pi, 1.0])
    return Environment(reset, step, observe, observation=(3,), action=(1,), time_limit=200)


def _wrapped(angle: Array) -> Array:
    """The same angle in [−π, π)."""
    return (angle + jnp.pi) % (2 * jnp.pi) - jnp.pi
