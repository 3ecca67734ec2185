"""The ways to assign credit: each takes a policy, and returns what its actions were worth.

What an arm learns from earlier episodes (a critic, a predictor of returns) is its state. What it
costs is counted in steps of the corridor, rollouts for Monte Carlo values among them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.credit_assignment.worlds import (
    ACTIONS,
    FORKS,
    Episodes,
    Task,
    exact,
    of_actions,
    roll,
)
from irl_jax.dynamics.advantages import leave_one_out
from irl_jax.dynamics.credit import (
    attention_credit,
    cutpoint_borders,
    gigpo_advantages,
    redistributed,
    segment_advantages,
    tree_advantages,
    vine_advantages,
)
from irl_jax.dynamics.returns import gae
from irl_jax.dynamics.shaping import potential_shaped
from irl_jax.rollout.replay import Replay, draw, empty_replay, store

BATCH = 8  # episodes of an update
ROLLOUTS = 4  # from each state whose value is estimated
SEGMENT = 5  # steps
BRANCHING = (2, 2, 2, 2)
DOUBT = 0.9  # an action of a smaller probability is a cutpoint
HIDDEN = 16  # of the recurrent predictor
CAPACITY = 512  # episodes that predictors learn from
FITTED = 32  # episodes of one of their updates
FITS = 2  # of their updates after each batch
FIT_RATE = 0.01  # of Adam
CRITIC_RATE = 0.1  # by which a value goes to the mean return of a batch

PyTree = Any


class Step(NamedTuple):
    """What an arm did with a policy.

    Attributes:
        episodes: N of them.
        credit: f32[N, H].
        cost: f32[], steps of the corridor.
        state: of the arm.
    """

    episodes: Episodes
    credit: Array
    cost: Array
    state: PyTree


# state, task, logits of the policy, typed PRNG key -> what was done
Credit = Callable[[PyTree, Task, Array, Array], Step]


class Arm(NamedTuple):
    """A way to assign credit.

    Attributes:
        init: (steps of the corridor, typed PRNG key) -> state.
        step: what it does for one update.
        cheapest: steps of the corridor -> steps that an update takes at least.
    """

    init: Callable[[int, Array], PyTree]
    step: Credit
    cheapest: Callable[[int], int]


def nothing(steps: int, key: Array) -> PyTree:
    """The state of an arm that learns nothing."""
    return ()


def batch(task: Task, logits: Array, key: Array) -> Episodes:
    """Episodes from the beginning."""
    zeros = jnp.zeros(BATCH, jnp.int32)
    return roll(task, logits, zeros, zeros, key)


def at_end(reward: Array, steps: int) -> Array:
    """Rewards of the actions, f32[N, H]: all at the last one."""
    return jnp.zeros((*reward.shape, steps)).at[..., -1].set(reward)


def everywhere(episodes: Episodes) -> Array:
    """The mask of whole episodes."""
    return jnp.ones(episodes.action.shape, bool)


def plain(credit: Callable[[Task, Array, Episodes], Array]) -> Arm:
    """An arm that looks at nothing but its episodes."""

    def step(state: PyTree, task: Task, logits: Array, key: Array) -> Step:
        episodes = batch(task, logits, key)
        cost = jnp.asarray(float(episodes.action.size))
        return Step(episodes, credit(task, logits, episodes), cost, state)

    return Arm(nothing, step, lambda steps: BATCH * steps)


def terminal(task: Task, logits: Array, episodes: Episodes) -> Array:
    """The reward over that of the other episodes, the same for all actions."""
    advantage = leave_one_out(episodes.reward[None])[0]
    return jnp.broadcast_to(advantage[:, None], episodes.action.shape)


def anchors(task: Task, logits: Array, episodes: Episodes) -> Array:
    """GiGPO: episodes against each other, and actions in the same state."""
    steps = episodes.action.shape[-1]
    state = (FORKS + 1) * jnp.arange(steps) + episodes.wrong
    reward, mask = at_end(episodes.reward, steps)[None], everywhere(episodes)[None]
    return gigpo_advantages(reward, state[None], mask, omega=1.0, discount=1.0, scale=False)[0]


def told_potential(task: Task, logits: Array, episodes: Episodes) -> Array:
    """Rewards shaped by the values of the best policy, which nobody else is told."""
    best = jnp.where(jax.nn.one_hot(task.right, logits.shape[-1], dtype=bool), 0.0, -jnp.inf)
    value, _ = exact(task, best)
    reward = at_end(episodes.reward, len(task.fork))
    potential = value[jnp.arange(len(task.fork)), episodes.wrong]
    return potential_shaped(reward, potential, everywhere(episodes), discount=1.0)


def told_advantage(task: Task, logits: Array, episodes: Episodes) -> Array:
    """The exact advantage."""
    value, q = exact(task, logits)
    return of_actions(q - value[:-1, :, None], episodes)


def critic(gae_lambda: float) -> Arm:
    """Advantages over a table of values; with λ = 0 its differences, a process reward."""

    def step(value: Array, task: Task, logits: Array, key: Array) -> Step:
        episodes = batch(task, logits, key)
        at = jnp.broadcast_to(jnp.arange(len(task.fork)), episodes.wrong.shape), episodes.wrong
        credit = gae(
            at_end(episodes.reward, len(task.fork)),
            value[at],
            everywhere(episodes),
            discount=1.0,
            gae_lambda=gae_lambda,
        )
        reward = jnp.broadcast_to(episodes.reward[:, None], episodes.wrong.shape)
        count = jnp.zeros_like(value).at[at].add(1.0)
        mean = jnp.zeros_like(value).at[at].add(reward) / jnp.maximum(count, 1.0)
        value = jnp.where(count > 0, value + CRITIC_RATE * (mean - value), value)
        return Step(episodes, credit, jnp.asarray(float(episodes.action.size)), value)

    init = lambda steps, key: jnp.zeros((steps, FORKS + 1))
    return Arm(init, step, lambda steps: BATCH * steps)


class Predictor(NamedTuple):
    """A model of returns.

    Attributes:
        init: (steps, typed PRNG key) -> parameters.
        loss: (parameters, episodes) -> f32[].
        credit: (parameters, episodes) -> f32[N, H].
    """

    init: Callable[[int, Array], PyTree]
    loss: Callable[[PyTree, Episodes], Array]
    credit: Callable[[PyTree, Episodes], Array]


def predicted(predictor: Predictor) -> Arm:
    """An arm whose credit is a model's of the returns of earlier episodes, without their mean."""
    tx = optax.adam(FIT_RATE)

    def init(steps: int, key: Array) -> PyTree:
        params = predictor.init(steps, key)
        row = jnp.zeros((1, steps), jnp.int32)
        replay = empty_replay(Episodes(row, row, row, jnp.zeros(1)), CAPACITY)
        return params, tx.init(params), replay

    def step(state: PyTree, task: Task, logits: Array, key: Array) -> Step:
        params, opt, replay = state
        acting, fitting = jax.random.split(key)
        episodes = batch(task, logits, acting)
        credit = predictor.credit(params, episodes)
        centred = leave_one_out(credit.T).T
        replay = store(replay, episodes, jnp.ones(BATCH, bool))
        fitted = fit(params, opt, replay, fitting)
        cost = jnp.asarray(float(episodes.action.size))
        return Step(episodes, centred, cost, (*fitted, replay))

    def fit(params: PyTree, opt: PyTree, replay: Replay, key: Array) -> tuple[PyTree, PyTree]:
        def once(carry: tuple, key: Array) -> tuple[tuple, None]:
            params, opt = carry
            slope = jax.grad(predictor.loss)(params, draw(replay, key, FITTED))
            change, opt = tx.update(slope, opt)
            return (optax.apply_updates(params, change), opt), None

        return jax.lax.scan(once, (params, opt), jax.random.split(key, FITS))[0]

    return Arm(init, step, lambda steps: BATCH * steps)


def tables(steps: int, shape: tuple[int, ...]) -> PyTree:
    """What a predictor knows of an action, and of the state that it led to: zeros of a shape."""
    return {
        "action": jnp.zeros((steps, ACTIONS, *shape)),
        "state": jnp.zeros((steps, FORKS + 1, *shape)),
    }


def read(params: PyTree, episodes: Episodes) -> Array:
    """The sum of both for the actions of episodes, f32[N, H, ...]."""
    at = jnp.arange(episodes.action.shape[-1])
    return params["action"][at, episodes.action] + params["state"][at, episodes.after]


def recurrent() -> Predictor:
    """RUDDER: a gated recurrent network that predicts the return after each action."""

    def init(steps: int, key: Array) -> PyTree:
        staying, reading = jax.random.split(key)
        return {
            "enter": tables(steps, (3 * HIDDEN,)),
            "stay": jax.nn.initializers.orthogonal()(staying, (HIDDEN, 3 * HIDDEN)),
            "read": 0.3 * jax.random.normal(reading, (HIDDEN,)),
            "before": jnp.zeros(()),
        }

    def predict(params: PyTree, episodes: Episodes) -> Array:
        def cell(hidden: Array, x: Array) -> tuple[Array, Array]:
            forget, update, new = jnp.split(x, 3, -1)
            from_forget, from_update, from_new = jnp.split(hidden @ params["stay"], 3, -1)
            gate = jax.nn.sigmoid(update + from_update)
            new = jnp.tanh(new + jax.nn.sigmoid(forget + from_forget) * from_new)
            hidden = gate * hidden + (1 - gate) * new
            return hidden, hidden @ params["read"] + params["before"]

        x = read(params["enter"], episodes)
        zeros = jnp.zeros((x.shape[0], HIDDEN))
        return jax.lax.scan(cell, zeros, jnp.moveaxis(x, 1, 0))[1].T

    def loss(params: PyTree, episodes: Episodes) -> Array:
        error = (predict(params, episodes) - episodes.reward[:, None]) ** 2
        return error[:, -1].mean() + 0.1 * error.mean()

    def credit(params: PyTree, episodes: Episodes) -> Array:
        mask, g = everywhere(episodes), predict(params, episodes)
        first = jnp.broadcast_to(params["before"], episodes.reward.shape)
        return redistributed(episodes.reward, g, mask, initial=first)

    return Predictor(init, loss, credit)


def attentive() -> Predictor:
    """ABC: one head of attention over the actions predicts the return."""

    def init(steps: int, key: Array) -> PyTree:
        return {"key": tables(steps, ()), "value": tables(steps, ())}

    def attention(params: PyTree, episodes: Episodes) -> Array:
        return jax.nn.softmax(read(params["key"], episodes), -1)

    def loss(params: PyTree, episodes: Episodes) -> Array:
        told = (attention(params, episodes) * read(params["value"], episodes)).sum(-1)
        return ((told - episodes.reward) ** 2).mean()

    def credit(params: PyTree, episodes: Episodes) -> Array:
        weight = attention(params, episodes)
        return attention_credit(episodes.reward, weight, everywhere(episodes), beta=1.0)

    return Predictor(init, loss, credit)


def values(task: Task, logits: Array, episodes: Episodes, key: Array, every: int) -> Array:
    """Returns of rollouts from each so-manieth state of episodes, f32[N, H, K]; 0 elsewhere."""
    start = jnp.arange(0, len(task.fork), every)
    shape = (len(episodes.reward), len(start), ROLLOUTS)
    wrong = jnp.broadcast_to(episodes.wrong[:, start, None], shape)
    rolled = roll(task, logits, jnp.broadcast_to(start[:, None], shape), wrong, key)
    zeros = jnp.zeros((*episodes.wrong.shape, ROLLOUTS))
    return zeros.at[:, start].set(rolled.reward)


def simulated(border: Array) -> Array:
    """Steps of the rollouts from borders bool[N, H], f32[]."""
    left = border.shape[-1] - jnp.arange(border.shape[-1])
    return (ROLLOUTS * left * border).sum().astype(jnp.float32)


def vine(segment: int) -> Arm:
    """VinePPO, with a border every so many steps."""

    def step(state: PyTree, task: Task, logits: Array, key: Array) -> Step:
        acting, rolling = jax.random.split(key)
        episodes = batch(task, logits, acting)
        mask, steps = everywhere(episodes), len(task.fork)
        border = mask & (jnp.arange(steps) % segment == 0)
        credit = vine_advantages(
            at_end(episodes.reward, steps),
            values(task, logits, episodes, rolling, segment),
            mask,
            border,
        )
        return Step(episodes, credit, mask.sum() + simulated(border), state)

    def cheapest(steps: int) -> int:
        left = sum(steps - t for t in range(0, steps, segment))
        return BATCH * (steps + ROLLOUTS * left)

    return Arm(nothing, step, cheapest)


def chain() -> Arm:
    """SPO-chain: a border after every cutpoint, and credit for cutpoints alone."""

    def step(state: PyTree, task: Task, logits: Array, key: Array) -> Step:
        acting, rolling = jax.random.split(key)
        episodes = batch(task, logits, acting)
        mask, steps = everywhere(episodes), len(task.fork)
        logp = jax.nn.log_softmax(logits)[jnp.arange(steps), episodes.action]
        border, cut = cutpoint_borders(logp, mask, threshold=DOUBT, cutpoints=1)
        value = values(task, logits, episodes, rolling, 1).mean(-1)
        credit = segment_advantages(at_end(episodes.reward, steps), value, mask, border)
        cost = mask.sum() + simulated(border)
        return Step(episodes, jnp.where(cut, credit, 0.0), cost, state)

    return Arm(nothing, step, lambda steps: BATCH * steps * (1 + ROLLOUTS))


def tree() -> Arm:
    """SPO-tree: one tree an update, its segments of equal length."""

    def step(state: PyTree, task: Task, logits: Array, key: Array) -> Step:
        steps = len(task.fork)
        length, cost = steps // len(BRANCHING), 0
        zeros = jnp.zeros((1, steps), jnp.int32)
        paths = Episodes(zeros, zeros, zeros, jnp.zeros(1))
        for depth, children in enumerate(BRANCHING):
            begin = depth * length
            paths = jax.tree.map(lambda x, n=children: jnp.repeat(x, n, 0), paths)
            wrong = paths.after[:, max(begin - 1, 0)]
            begun = jnp.full(wrong.shape, begin)
            grown = roll(task, logits, begun, wrong, jax.random.fold_in(key, depth))
            past = jnp.arange(steps) < begin
            keep = lambda old, new, past=past: jnp.where(past, old, new) if old.ndim > 1 else new
            paths = jax.tree.map(keep, paths, grown)
            cost += len(wrong) * length
        advantage = tree_advantages(paths.reward, branching=BRANCHING)
        credit = jnp.repeat(advantage, length, -1)
        return Step(paths, credit, jnp.asarray(float(cost)), state)

    def cheapest(steps: int) -> int:
        leaves, cost = 1, 0
        for children in BRANCHING:
            leaves *= children
            cost += leaves * (steps // len(BRANCHING))
        return cost

    return Arm(nothing, step, cheapest)


TERMINAL, CRITIC, PROCESS = "terminal reward", "critic, λ = 1", "process reward of a critic"
RUDDER, ABC, GIGPO = "RUDDER", "ABC", "GiGPO"
VINE, VINE_ALL = f"VinePPO, segments of {SEGMENT}", "VinePPO, each action"
CHAIN, TREE = "SPO-chain", "SPO-tree"
POTENTIAL, EXACT = "told: best values as potentials", "told: exact advantages"
ARMS = {
    TERMINAL: plain(terminal),
    CRITIC: critic(1.0),
    PROCESS: critic(0.0),
    RUDDER: predicted(recurrent()),
    ABC: predicted(attentive()),
    GIGPO: plain(anchors),
    VINE: vine(SEGMENT),
    VINE_ALL: vine(1),
    CHAIN: chain(),
    TREE: tree(),
    POTENTIAL: plain(told_potential),
    EXACT: plain(told_advantage),
}
