"""The study of `experiments.guided_decoding`: settings, stages, summary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from experiments.guided_decoding.config import Config
from experiments.guided_decoding.report import (
    BEST,
    BLOCKS,
    MEASURES,
    against_best,
    conclusion,
    write_report,
)
from experiments.sandbox.task import (
    Task,
    compare,
    draw_prompts,
    embed,
    gold,
    learn_proxy,
    make_task,
    sample,
)
from experiments.sandbox.world import EOS
from irl_jax.eval.best_of_n import kl_bound, kl_estimate, mean_curves, selection_probability
from irl_jax.eval.intervals import t_interval
from irl_jax.files import as_json
from irl_jax.losses.prefix import Cost, prefix_bellman, prefix_regression, squared
from irl_jax.masking import masked_sum
from irl_jax.models.heads import apply_scalar_head, init_scalar_head, last_value
from irl_jax.models.logprob import completion_hidden, completion_logp
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.rewards.embedding import EmbeddingReward, EnsembleConfig, fit_members
from irl_jax.rollout.generate import generate
from irl_jax.rollout.guide import DecoderGuide, LogitsProcessor, PrefixGuide
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.search import search
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import Group, InputError, Loss, Prompt, PyTree, Rating

FUDGE, BELLMAN = "tokenwise, CD-FUDGE", "tokenwise, CD-Q"
ARGS, GREEDY = "ARGS-stochastic", "ARGS-greedy"


@dataclass(frozen=True)
class World:
    """One seed's task, the reward model, and values by the name of how they were learned."""

    task: Task
    model: EmbeddingReward
    values: dict[str, PyTree]


@jax.jit
def proxy(task: Task, model: EmbeddingReward, context: Prompt, action: Array, mask: Array) -> Array:
    """The learned reward of completions or prefixes, f32[B, K], i32[B, K, T] given."""
    return model(embed(task, context, action, mask)).mean(0)


def prefix_value(task: Task, params: PyTree, context: Prompt, action: Array, mask: Array) -> Array:
    """The value at the last token of each prefix, f32[B, K]."""
    hidden = completion_hidden(task.config, params["decoder"], context, action)
    return last_value(apply_scalar_head(params["head"], hidden), mask)


@partial(jax.jit, static_argnames=("config", "cost", "bellman"))
def learn_value(
    task: Task, rows: Rating, key: Array, *, config: EnsembleConfig, cost: Cost, bellman: bool
) -> PyTree:
    """A decoder with a head that says after each token what the completion will be worth.

    Args:
        task: the world; the decoder starts as its policy.
        rows: completions of the policy with their rewards.
        key: typed PRNG key.
        config: updates.
        cost: of the residual.
        bellman: learn from the value one token on; otherwise from the reward at the end.
    """

    def objective(params: PyTree, batch: Rating) -> Loss:
        hidden = completion_hidden(
            task.config, params["decoder"], batch.context, batch.action[:, None]
        )
        value = apply_scalar_head(params["head"], hidden[:, 0])
        if bellman:
            return prefix_bellman(value, jnp.roll(value, -1, axis=1), batch, cost=cost)
        return prefix_regression(value, batch, cost=cost)

    init = lambda key: {
        "decoder": task.reference,
        "head": init_scalar_head(key, task.config.d_model),
    }
    members, _ = fit_members(init, objective, rows, key, config=config)
    return jax.tree.map(lambda x: x[0], members)


def prepare(config: Config, seed: int) -> World:
    """Trains a world's policy, its reward model, and the values of prefixes."""
    keys = jax.random.split(jax.random.key(1000 + seed), 5)
    task = make_task(config.world, seed)
    drawn = sample(
        task, task.reference, draw_prompts(task, keys[0], config.pairs), keys[0], completions=2
    )
    pairs = compare(drawn, keys[1], beta=config.beta)
    model = learn_proxy(task, pairs, keys[2], config=config.reward)
    written = sample(
        task, task.reference, draw_prompts(task, keys[3], config.rollouts // 4), keys[3],
        completions=4,
    )  # fmt: skip
    score = proxy(task, model, written.context, written.action, written.mask)
    # In standard deviations of the policy's own completions, so that weights mean the same.
    spread = score.std()
    model = replace(model, members=_scaled(model.members, spread))
    flat = written.flatten()
    rows = Rating(
        context=flat.context, action=flat.action, mask=flat.mask,
        score=score.reshape(-1) / spread, weight=jnp.ones(score.size),
    )  # fmt: skip
    fit = partial(learn_value, task, rows, keys[4], config=value_config(config))
    return World(
        task,
        model,
        {
            FUDGE: fit(cost=squared, bellman=False),
            BELLMAN: fit(cost=squared, bellman=True),
        },
    )


def _scaled(members: PyTree, spread: Array) -> PyTree:
    """Perceptrons whose outputs are divided by `spread`."""
    last = f"layer_{len(members) - 1}"
    return members | {last: jax.tree.map(lambda x: x / spread, members[last])}


def value_config(config: Config) -> EnsembleConfig:
    """How a value function is trained."""
    return EnsembleConfig(
        members=1, steps=config.steps, batch_size=config.batch_size, lr=config.lr,
        weight_decay=0.0, rows="passes",
    )  # fmt: skip


def measured(world: World, group: Group, kl: np.ndarray | float, read: float) -> dict[str, float]:
    """Means over the completions of a point.

    Args:
        world: whose rewards count.
        group: completions.
        kl: nats, of each completion or in all.
        read: tokens that decoders read for each token written.
    """
    task, of = world.task, (group.context, group.action, group.mask)
    return {
        "gold": float(gold(task, *of).mean()),
        "proxy": float(proxy(task, world.model, *of).mean()),
        "kl": float(np.mean(kl)),
        "tokens": read,
    }


def tokenwise(
    config: Config,
    world: World,
    context: Prompt,
    key: Array,
    guide: LogitsProcessor,
    *,
    temperature: float,
) -> Group:
    """Completions under a guide."""
    return generate(
        world.task.config, world.task.reference, context, key,
        completions=config.completions, max_new_tokens=world.task.max_new_tokens,
        sampling=Sampling(temperature=temperature), eos_ids=(EOS,), guides=(guide,),
    )  # fmt: skip


@jax.jit
def policy_logp(task: Task, group: Group) -> Array:
    """log π(y | x) of whole completions under the policy, f32[B, K], nats."""
    logp = completion_logp(task.config, task.reference, group.context, group.action)
    return masked_sum(logp, group.mask, axis=-1)


def evaluate(config: Config, world: World, seed: int) -> dict[str, list[dict[str, float]]]:
    """Method -> its points, each a dictionary of MEASURES, for one world."""
    task = world.task
    keys = jax.random.split(jax.random.key(2000 + seed), 3)
    context = draw_prompts(task, keys[0], config.prompts)
    points: dict[str, list[dict[str, float]]] = {}
    reader = Partial(proxy, task, world.model)

    def guide(name: str, w: float) -> LogitsProcessor:
        if name in world.values:
            return DecoderGuide(task.config, world.values[name], jnp.float32(w), config.top_k)
        return PrefixGuide(reader, jnp.float32(w), config.top_k)

    for name in (*world.values, ARGS, GREEDY):
        points[name] = []
        for w in config.weights:
            temperature = 0.0 if name == GREEDY else 1.0
            group = tokenwise(
                config, world, context, keys[1], guide(name, w), temperature=temperature
            )
            kl = masked_sum(group.logp, group.mask, axis=-1) - policy_logp(task, group)
            read = 1.0 + (config.top_k or config.world.vocabulary) + (name in world.values)
            points[name].append(measured(world, group, np.asarray(kl), read))
    critic = Partial(prefix_value, task, world.values[FUDGE])
    points[BLOCKS] = []
    for m in config.candidates:
        group = search(
            task.config, task.reference, context, keys[1], value=critic,
            completions=config.completions, candidates=m, compete=False, block=config.block,
            max_new_tokens=task.max_new_tokens, sampling=Sampling(), eos_ids=(EOS,),
        )  # fmt: skip
        blocks = np.ceil(np.asarray(group.mask.sum(-1)) / config.block)
        points[BLOCKS].append(measured(world, group, blocks * kl_bound(m), 2.0 * m))
    points[BEST] = best(config, world, context, keys[2])
    return points


def best(config: Config, world: World, context: Prompt, key: Array) -> list[dict[str, float]]:
    """Best-of-n, in expectation over all subsets of one set of draws."""
    group = sample(world.task, world.task.reference, context, key, completions=config.draws)
    score = np.asarray(
        proxy(world.task, world.model, group.context, group.action, group.mask), np.float64
    )
    true, logp = np.asarray(group.reward), np.asarray(policy_logp(world.task, group))
    rewards, found = mean_curves([score], [true], config.ns), []
    for i, n in enumerate(config.ns):
        kl = kl_estimate(np.minimum(logp, 0.0).reshape(-1), n).reshape(logp.shape)
        found.append(
            {
                "gold": float(rewards["gold"][0, i]),
                "proxy": float(rewards["proxy"][0, i]),
                "kl": float((selection_probability(score, n) * kl).sum(1).mean()),
                "tokens": float(n) if n == 1 else 2.0 * n,
            }
        )
    return found


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    if config.seeds < 2:
        raise InputError(f"seeds: an interval needs at least 2 worlds, got {config.seeds}")
    if max(config.ns) > config.draws:
        raise InputError(f"ns: {max(config.ns)} is more than the {config.draws} draws of a prompt")
    launch(config, partial(experiment, config), conclusion)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Every world: train, steer, measure; then report."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("worlds", config.seeds)
    by_seed: list[dict[str, list[dict[str, float]]]] = []

    def one(seed: int) -> dict[str, np.ndarray]:
        with clock("policies, reward models, values"):
            world = prepare(config, seed)
            jax.block_until_ready(world.values)
        with clock("guided decoding"):
            points = evaluate(config, world, seed)
        return {
            name: np.array([[point[m] for m in MEASURES] for point in found])
            for name, found in points.items()
        }

    for seed in range(config.seeds):
        arrays = kept(run, f"world_{seed}", partial(one, seed))
        by_seed.append(
            {
                name: [dict(zip(MEASURES, map(float, row), strict=True)) for row in found]
                for name, found in arrays.items()
            }
        )
        advance(seed + 1, {})
    summary = as_json(summarise(config, by_seed, clock.seconds))
    write_report(run, summary)
    run.finish(summary)


def summarise(
    config: Config, by_seed: list[dict[str, list[dict[str, float]]]], seconds: dict[str, float]
) -> dict[str, Any]:
    """Means over worlds with their intervals."""
    return {
        "points": {
            name: [
                {"setting": setting}
                | {m: t_interval([world[name][i][m] for world in by_seed]) for m in MEASURES}
                for i, setting in enumerate(settings(config, name))
            ]
            for name in by_seed[0]
        },
        "against_best_of_n": against_best(
            {name: settings(config, name) for name in by_seed[0]}, config.ns, by_seed
        ),
        "by_seed": by_seed,
        "seconds": seconds,
    }


def settings(config: Config, name: str) -> list[str]:
    """What the points of a method differ in."""
    if name == BEST:
        return [f"n = {n}" for n in config.ns]
    if name == BLOCKS:
        return [f"M = {m}" for m in config.candidates]
    return [f"w = {w:g}" for w in config.weights]
