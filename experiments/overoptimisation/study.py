"""The study of `experiments.overoptimisation`: settings, stages, summary."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.overoptimisation.config import Config
from experiments.overoptimisation.report import conclusion, summarise, write_report
from experiments.overoptimisation.runs import (
    AGGREGATES,
    Arm,
    Trace,
    aggregates,
    prefer,
    reinforce,
    start,
    take,
    widened,
)
from experiments.sandbox.task import (
    Task,
    compare,
    draw_prompts,
    kept_tasks,
    learn_proxy,
    proxy,
    sample,
)
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.rewards.embedding import EmbeddingReward, EnsembleConfig
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError, Preference, PyTree

SMOOTHING = 0.2  # share of wrong labels that label smoothing assumes


def check(config: Config) -> None:
    """Raises `InputError` for what a run would only stumble over later."""
    if config.seeds < 2:
        raise InputError(f"seeds: intervals need 2 or more, got {config.seeds}")
    if list(config.pairs) != sorted(set(config.pairs)) or config.pairs[0] < 2:
        raise InputError(f"pairs: give rising numbers of 2 or more, got {config.pairs}")
    if any(config.pairs[-1] % n for n in config.pairs):
        raise InputError(f"pairs: each must divide the last one, got {config.pairs}")
    if config.policy.updates % 2:
        raise InputError(f"policy.updates: give an even number, got {config.policy.updates}")
    if config.policy.dpo_updates % config.policy.dpo_every:
        raise InputError("policy.dpo_updates: must be a multiple of policy.dpo_every")


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    check(config)
    launch(config, partial(experiment, config), conclusion)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Worlds, proxies, policies, measurements, report."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("over-optimisation", 5)
    with clock("worlds"):
        tasks = kept_tasks(run, config.sandbox, config.seeds)
        advance(1, {})
    with clock("proxies"):
        pairs, models, second = learn_all(config, tasks)
        advance(2, {})
    with clock("best-of-n"):
        chosen = kept(run, "best_of_n", partial(best_of_n_rewards, config, tasks, models))
        advance(3, {})
    with clock("GRPO"):
        grpo = kept(run, "grpo", partial(grpo_traces, config, tasks, pairs, models, second))
        advance(4, {})
    with clock("DPO"):
        dpo = kept(run, "dpo", partial(dpo_traces, config, tasks, pairs, models, second))
        advance(5, {})
    summary = summarise(
        chosen,
        grpo,
        dpo,
        sizes=config.pairs,
        widths=config.widths,
        arms=list(arms_of(config)),
        seconds=clock.seconds,
    )
    write_report(run, summary)
    run.finish(as_json(summary))


@partial(jax.jit, static_argnames=("count", "beta"))
def comparisons(
    tasks: Task, policies: PyTree, keys: Array, *, count: int, beta: float
) -> Preference:
    """Comparisons of two completions of a prompt each, leaves [S, count, ...]."""

    def one(item: tuple[Task, PyTree, Array]) -> Preference:
        task, params, key = item
        ask, act, judge = jax.random.split(key, 3)
        context = draw_prompts(task, ask, count)
        group = sample(task, params, context, act, completions=2)
        out: Preference = compare(group, judge, beta=beta)
        return out

    found: Preference = jax.lax.map(one, (tasks, policies, keys))
    return found


@partial(jax.jit, static_argnames=("config", "label_smoothing"))
def learn(
    tasks: Task,
    pairs: Preference,
    rows: Array,
    keys: Array,
    *,
    config: EnsembleConfig,
    label_smoothing: float = 0.0,
) -> EmbeddingReward:
    """Proxies of R worlds from rows i64[N] of their comparisons; leaves [R, ...]."""
    found: EmbeddingReward = jax.lax.map(
        lambda item: learn_proxy(
            item[0], take(item[1], rows), item[2], config=config, label_smoothing=label_smoothing
        ),
        (tasks, pairs, keys),
    )
    return found


def seed_keys(config: Config, purpose: int) -> Array:
    """A key for each seed and purpose."""
    fold = lambda seed: jax.random.fold_in(jax.random.key(seed), purpose)
    return jax.vmap(fold)(jnp.arange(config.seeds))


def learn_all(
    config: Config, tasks: Task
) -> tuple[Preference, dict[str, EmbeddingReward], EmbeddingReward]:
    """The comparisons, the proxies by name, and the second proxy; leaves [S, ...].

    All are as wide as the widest, the idle units zero, so that they share programs.
    """
    most, wide = config.pairs[-1], max(config.widths)
    draw = partial(comparisons, tasks, tasks.reference, count=most, beta=config.annotator_beta)
    pairs, others = draw(seed_keys(config, 1)), draw(seed_keys(config, 2))
    keys = seed_keys(config, 3)

    def fit(pairs: Preference, size: int, width: int, smoothing: float = 0.0) -> EmbeddingReward:
        sized = EnsembleConfig(**{**vars(config.reward), "widths": (width,)})
        rows = jnp.arange(most) % size  # as many rows for every size: one program
        model = learn(tasks, pairs, rows, keys, config=sized, label_smoothing=smoothing)
        return widened(model, wide)

    models = {
        f"{n} pairs, {w} units": fit(pairs, n, w) for n in config.pairs for w in config.widths
    }
    middle = middle_size(config)
    models["label smoothing"] = fit(pairs, middle, config.widths[-1], SMOOTHING)
    models["half the labels"] = fit(pairs, middle // 2, config.widths[-1])
    return pairs, models, fit(others, middle, config.widths[-1])


def middle_size(config: Config) -> int:
    """Comparisons that the mitigations learn from."""
    return config.pairs[len(config.pairs) // 2]


def arms_of(config: Config) -> dict[str, tuple[str, str, float]]:
    """Name of an arm -> name of its proxy, aggregate, penalty.

    First the proxies of every size, by their first member; then the mitigations.
    """
    wide = config.widths[-1]
    plain = f"{middle_size(config)} pairs, {wide} units"
    sized = [f"{n} pairs, {w} units" for n in config.pairs for w in config.widths]
    arms = {name: (name, "one", 0.0) for name in sized}
    arms |= {
        "ensemble mean": (plain, "mean", 0.0),
        "lower confidence bound": (plain, "bound", 0.0),
        "worst case": (plain, "worst", 0.0),
        "bounded reward": (plain, "bounded", 0.0),
        "label smoothing": ("label smoothing", "one", 0.0),
    }
    arms |= {f"KL penalty {beta:g}": (plain, "one", beta) for beta in config.policy.penalties}
    return arms | {"relabelled half-way": ("half the labels", "one", 0.0)}


def grpo_traces(
    config: Config,
    tasks: Task,
    pairs: Preference,
    models: dict[str, EmbeddingReward],
    second: EmbeddingReward,
) -> dict[str, np.ndarray]:
    """Each field of `Trace`, f32[arms, S, updates].

    Half-way the last arm's policies write `middle / 2` new pairs, which are compared and
    added to the half that its proxy knew: as many labels as the other arms have.
    """
    policy, named = config.policy, arms_of(config)
    seeds, count = config.seeds, len(named)
    arms = [
        Arm(
            models[model],
            second,
            jnp.full(seeds, AGGREGATES.index(how)),
            jnp.full(seeds, penalty, jnp.float32),
        )
        for model, how, penalty in named.values()
    ]
    repeat = lambda tree: jax.tree.map(lambda x: jnp.concatenate([x] * count), tree)
    flat = lambda arms: jax.tree.map(lambda *x: jnp.concatenate(x), *arms)
    go = partial(
        reinforce,
        repeat(tasks),
        updates=policy.updates // 2,
        prompts=policy.prompts,
        completions=policy.completions,
        lr=policy.lr,
        deviations=policy.deviations,
    )
    begin = jax.vmap(lambda task, key: start(task, policy.lr, key))
    states, first = go(flat(arms), repeat(begin(tasks, seed_keys(config, 4))))
    half = middle_size(config) // 2
    new = comparisons(
        tasks,
        take(states.params, slice(-seeds, None)),
        seed_keys(config, 5),
        count=half,
        beta=config.annotator_beta,
    )
    both = jax.tree.map(lambda old, new: jnp.concatenate([old[:, :half], new], axis=1), pairs, new)
    sized = EnsembleConfig(**{**vars(config.reward), "widths": (config.widths[-1],)})
    rows = jnp.arange(config.pairs[-1]) % (2 * half)
    model = learn(tasks, both, rows, seed_keys(config, 6), config=sized)
    arms[-1] = replace(arms[-1], model=widened(model, max(config.widths)))
    _, rest = go(flat(arms), states)
    return by_field(jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), first, rest), seeds)


def dpo_traces(
    config: Config,
    tasks: Task,
    pairs: Preference,
    models: dict[str, EmbeddingReward],
    second: EmbeddingReward,
) -> dict[str, np.ndarray]:
    """Each field of `Trace`, f32[sizes, S, measurements], the wide proxy of a size measuring."""
    policy, sizes, seeds = config.policy, config.pairs, config.seeds
    begin = jax.vmap(lambda task, key: start(task, policy.dpo_lr, key))
    states = begin(tasks, seed_keys(config, 7))
    wide = config.widths[-1]
    none = jnp.zeros(seeds)
    arms = [
        Arm(models[f"{n} pairs, {wide} units"], second, none.astype(jnp.int32), none) for n in sizes
    ]
    rows = [jnp.arange(sizes[-1]) % n for n in sizes]
    stack = lambda trees: jax.tree.map(lambda *x: jnp.concatenate(x), *trees)
    found = prefer(
        stack([tasks] * len(sizes)),
        stack(arms),
        stack([jax.tree.map(lambda x, r=r: x[:, r], pairs) for r in rows]),
        stack([states] * len(sizes)),
        updates=policy.dpo_updates,
        every=policy.dpo_every,
        batch_size=policy.dpo_batch,
        prompts=4 * policy.prompts,
        completions=policy.completions,
        lr=policy.dpo_lr,
        beta=policy.dpo_beta,
    )
    return by_field(found, seeds)


def by_field(trace: Trace, seeds: int) -> dict[str, np.ndarray]:
    """Field -> f32[R / S, S, ...] of traces f32[R, ...]."""
    return {name: np.asarray(x).reshape(-1, seeds, x.shape[-1]) for name, x in vars(trace).items()}


def best_of_n_rewards(
    config: Config, tasks: Task, models: dict[str, EmbeddingReward]
) -> dict[str, np.ndarray]:
    """`gold` f32[S, P, K], and of each arm without a penalty or new labels its reward, likewise."""

    @jax.jit
    def draw(tasks: Task, keys: Array, models: dict[str, EmbeddingReward]) -> dict[str, Array]:
        def one(item: tuple[Task, Array, dict[str, EmbeddingReward]]) -> dict[str, Array]:
            task, key, models = item
            ask, act = jax.random.split(key)
            context = draw_prompts(task, ask, config.best_of_prompts)
            group = sample(task, task.reference, context, act, completions=config.best_of)
            rewards = {
                name: aggregates(proxy(task, models[model], group), config.policy.deviations)[how]
                for name, (model, how, penalty) in arms_of(config).items()
                if penalty == 0 and model != "half the labels"
            }
            return {"gold": group.reward, **rewards}

        out: dict[str, Array] = jax.lax.map(one, (tasks, keys, models))
        return out

    return {k: np.asarray(v) for k, v in draw(tasks, seed_keys(config, 8), models).items()}
