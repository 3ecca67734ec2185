"""Runs of an arm, each a policy and its credit as one program; all runs of an arm at once."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.credit_assignment.arms import DOUBT, Arm
from experiments.credit_assignment.config import Config
from experiments.credit_assignment.worlds import (
    Task,
    exact,
    make_tasks,
    of_actions,
    success,
)

# kind of corridor -> probability of the reward after 0, 1, ... wrong actions, one for each fork
KINDS = {
    "one fork": [0.75, 0.25],
    "two forks, both needed": [0.75, 0.25, 0.25],
    "five forks, each counts": [0.9, 0.74, 0.58, 0.42, 0.26, 0.1],
}
LEARNED, ERROR = "thousand steps", "error of the credit"
END, RATE = "success at the end", "learning rate"
EVALUATED, TUNED = 0, 1  # parts of a seed: of whose corridors


def tasks_of(config: Config, kind: str, part: int, count: int) -> Task:
    """Corridors of a kind, stacked."""
    number = list(KINDS).index(kind)
    return make_tasks(
        [[config.seed, part, number, i] for i in range(count)],
        steps=config.steps,
        forks=len(KINDS[kind]) - 1,
        doubtful=config.doubtful,
        sure=config.sure,
        worth=KINDS[kind],
    )


@partial(jax.jit, static_argnames=("arm", "budget", "threshold"))
def runs(
    arm: Arm, tasks: Task, rates: Array, keys: Array, *, budget: int, threshold: float
) -> tuple[Array, Array, Array]:
    """Runs an arm in every task.

    Args:
        arm: how credit is assigned.
        tasks: N of them, stacked.
        rates: f32[N], learning rates of SGD on the policy's logits.
        keys: typed PRNG keys [N].
        budget: steps of each run.
        threshold: probability to be right in every fork that counts as learned.

    Returns:
        f32[N] each: steps until it was learned, or the budget; the probability at the end;
        the share of the credit's square that is not along the exact advantage, at the steps at
        which the policy began in doubt, over the second half of the budget.
    """
    return jax.vmap(partial(_run, arm, budget=budget, threshold=threshold))(tasks, rates, keys)


def _run(
    arm: Arm, task: Task, rate: Array, key: Array, *, budget: int, threshold: float
) -> tuple[Array, Array, Array]:
    starting, running = jax.random.split(key)
    count = len(task.fork)
    at = jnp.arange(count)
    doubtful = jnp.exp(task.first.max(-1)) < DOUBT

    def update(carry: tuple, key: Array) -> tuple[tuple, None]:
        logits, state, spent, learned, sums = carry
        did = arm.step(state, task, logits, key)
        value, q = exact(task, logits)
        advantage = of_actions(q - value[:-1, :, None], did.episodes)

        def loss(logits: Array) -> Array:
            logp = jax.nn.log_softmax(logits)[at, did.episodes.action]
            return -(did.credit * logp).sum(-1).mean()

        changed = logits - rate * jax.grad(loss)(logits)
        within = spent + did.cost <= budget
        spent = jnp.where(within, spent + did.cost, budget)
        logits = jnp.where(within, changed, logits)
        there = within & (success(task, logits) >= threshold)
        products = [did.credit * advantage, did.credit**2, advantage**2]
        products = [x * doubtful for x in products]
        late = within & (spent > budget / 2)
        sums = sums + jnp.where(late, jnp.stack([x.sum() for x in products]), 0.0)
        return (logits, did.state, spent, jnp.where(there, jnp.minimum(learned, spent), learned),
                sums), None  # fmt: skip

    first = (task.first, arm.init(count, starting), 0.0, jnp.asarray(float(budget)), jnp.zeros(3))
    keys = jax.random.split(running, budget // arm.cheapest(count))
    (logits, _, _, learned, (both, credit, advantage)), _ = jax.lax.scan(update, first, keys)
    return learned, success(task, logits), 1 - both**2 / jnp.maximum(credit * advantage, 1e-12)


def measure(config: Config, kind: str, number: int, arm: Arm) -> dict[str, np.ndarray]:
    """Chooses the learning rate of an arm on some corridors, and measures it on others.

    Args:
        config: settings.
        kind: of corridor.
        number: of the arm.
        arm: how credit is assigned.

    Returns:
        Name -> f32[...]: `LEARNED`, `ERROR` (under the policy of the beginning) and `END` of each
        seed; `RATE`; and "tuning", the mean of `LEARNED` by learning rate.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), number + 100 * list(KINDS).index(kind))
    play = partial(runs, arm, budget=config.budget, threshold=config.threshold)
    tile = lambda tasks, n: jax.tree.map(lambda x: jnp.repeat(x, n, 0), tasks)
    count = len(config.rates)
    tasks = tile(tasks_of(config, kind, TUNED, config.tuning), count)
    rates = jnp.tile(jnp.array(config.rates), config.tuning)
    keys = jax.random.split(jax.random.fold_in(key, TUNED), len(rates))
    steps = np.asarray(play(tasks, rates, keys)[0]).reshape(-1, count).mean(0)
    rate = config.rates[int(np.argmin(steps))]
    tasks = tile(tasks_of(config, kind, EVALUATED, config.seeds), 2)
    rates = jnp.tile(jnp.array([rate, 0.0]), config.seeds)
    keys = jax.random.split(jax.random.fold_in(key, EVALUATED), len(rates))
    learned, end, error = (np.asarray(x).reshape(-1, 2) for x in play(tasks, rates, keys))
    return {
        LEARNED: learned[:, 0] / 1e3,
        ERROR: error[:, 1],
        END: end[:, 0],
        RATE: np.array(rate),
        "tuning": steps / 1e3,
    }
