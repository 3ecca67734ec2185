"""The study of `experiments.alignment_frontier`: settings, stages, summary."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.alignment_frontier.config import GOLD, METHODS, PROXY, SANDBOX, Config
from experiments.alignment_frontier.language import on_language_model
from experiments.alignment_frontier.report import conclusion, write_report
from experiments.sandbox.runs import Bench, Signal, align, interval, make_signals, world_keys
from experiments.sandbox.task import Task, draw_prompts, kept_tasks, proxy, sample
from irl_jax.eval.best_of_n import mean_curves, powers_of_two
from irl_jax.eval.frontier import frontier
from irl_jax.eval.intervals import adjusted
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, given_model, kept, launch
from irl_jax.train.methods import Method
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError

BASE = "DPO"
BEST_OF_N = "best-of-n"
COMPARISONS = "comparisons"
EQUAL_KL = (1.0, 2.0, 3.0)  # nats at which methods are compared
GRID = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)  # nats, of the figure

Curves = Mapping[str, np.ndarray]  # "kl" and "gold", f[S, A, T]


def check(config: Config) -> None:
    """Raises `InputError` for what a run would only stumble over later."""
    unknown = [name for name in config.methods if name not in METHODS]
    if unknown or BASE not in config.methods:
        raise InputError(
            f"methods: {unknown[0]!r} is none of {', '.join(METHODS)}" if unknown
            else f"methods: all are compared to {BASE}; add it"
        )  # fmt: skip
    if not config.teachers:
        raise InputError("teachers: name proxy, gold or both")
    if config.seeds < 3:
        raise InputError(f"seeds: a strength is chosen on other worlds; give 3, got {config.seeds}")
    sandbox = config.model == SANDBOX
    place, size = ("", config.training) if sandbox else ("language.", config.language.training)
    if size.updates % size.every:
        raise InputError(f"{place}training.updates: must be a multiple of {place}training.every")
    for name in config.methods:
        beside = METHODS[name].beside
        least = 2 if beside is None else 1 + beside.count
        if size.completions < least:
            raise InputError(f"{place}training.completions: {name} needs at least {least}")


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    check(config)
    strengths = {name: list(method.strengths) for name, method in METHODS.items()}
    launch(
        config,
        partial(experiment, config),
        conclusion,
        inputs={
            "model": given_model(config.model),
            "language.tokenizer": config.language.tokenizer,
        },
        pinned={"strengths": as_json(strengths)},
    )


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Worlds, comparisons, policies, measurements, report."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("frontier", len(config.methods) + 1)
    with clock("worlds"):
        bench = on_sandbox(config, run) if config.model == SANDBOX else on_language_model(
            config.model, config.language,
            seeds=config.seeds, beta=config.annotator_beta, run=run, progress=progress,
        )  # fmt: skip
        advance(1, {})
    curves: dict[tuple[str, str], Curves] = {}
    for number, name in enumerate(config.methods):
        method = METHODS[name]
        for teacher in (COMPARISONS,) if method.prepare is None else config.teachers:
            with clock(f"{name}, {teacher}"):
                curves[name, teacher] = bench.run(name, method, teacher)
        advance(number + 2, {})
    for teacher in (PROXY, GOLD):
        chosen, gold = bench.reference[teacher], bench.reference[GOLD]
        best = mean_curves(chosen, gold, powers_of_two(gold.shape[-1])[1:])
        curves[BEST_OF_N, teacher] = {field: x[:, None] for field, x in best.items()}
    summary = summarise(curves, optimum(bench.reference[GOLD])) | {"seconds": clock.seconds}
    write_report(run, summary)
    run.finish(as_json(summary))


def on_sandbox(config: Config, run: RunDirectory) -> Bench:
    """The task of the sandbox: worlds, comparisons, proxies."""
    tasks = kept_tasks(run, config.sandbox, config.seeds)
    signals = make_signals(
        tasks,
        world_keys(config.seeds, 1),
        comparisons=config.comparisons,
        beta=config.annotator_beta,
        config=config.reward,
    )

    def trace(name: str, method: Method, teacher: str) -> dict[str, np.ndarray]:
        make = partial(trajectories, config, tasks, signals, method, teacher)
        return kept(run, f"{name}_{teacher}", make)

    chosen = kept(run, "best_of_n", partial(best_of_n_rewards, config, tasks, signals))
    return Bench(chosen, trace)


def trajectories(
    config: Config, tasks: Task, signals: Signal, method: Method, teacher: str
) -> dict[str, np.ndarray]:
    """Each field of `Trace`, f32[S, A, T], of a method's runs."""
    found = align(
        tasks,
        signals,
        world_keys(config.seeds, 2),
        jnp.asarray(method.strengths, jnp.float32),
        config.annotator_beta if teacher == GOLD else 0.0,
        method=method,
        training=config.training,
        measuring=config.measuring,
    )
    return {name: np.asarray(x) for name, x in vars(found).items()}


def best_of_n_rewards(config: Config, tasks: Task, signals: Signal) -> dict[str, np.ndarray]:
    """`gold` and `proxy` f32[S, P, K] of the reference policy's completions."""

    @jax.jit
    def draw(tasks: Task, signals: Signal, keys: Array) -> dict[str, Array]:
        def one(item: tuple[Task, Signal, Array]) -> dict[str, Array]:
            task, signal, (ask, act) = item[0], item[1], jax.random.split(item[2])
            context = draw_prompts(task, ask, config.best_of_prompts)
            group = sample(task, task.reference, context, act, completions=config.best_of)
            return {GOLD: group.reward, PROXY: proxy(task, signal.model, group).mean(0)}

        out: dict[str, Array] = jax.lax.map(one, (tasks, signals, keys))
        return out

    found = draw(tasks, signals, world_keys(config.seeds, 3))
    return {name: np.asarray(x) for name, x in found.items()}


def optimum(gold: np.ndarray, most: float = 0.5) -> Curves:
    """The best that any policy can do, π*(y|x) ∝ π_ref(y|x) exp(λ gold(x, y)), λ rising.

    Expectations are weighted means over K samples of the reference policy.

    Args:
        gold: f[S, P, K], of the reference policy's samples.
        most: share of log K, the greatest KL that K samples can show, up to which they
            are trusted.
    """
    kl, reward = [], []
    for scale in np.linspace(0.1, 8.0, 80):
        logit = scale * gold.astype(np.float64)
        weight = np.exp(logit - logit.max(-1, keepdims=True))
        weight /= weight.sum(-1, keepdims=True)
        spread = np.log(np.maximum(weight * gold.shape[-1], 1e-300))
        kl.append((weight * spread).sum(-1).mean(-1))
        reward.append((weight * gold).sum(-1).mean(-1))
    far = np.array(kl).T
    far = np.where(far <= most * np.log(gold.shape[-1]), far, np.nan)
    return {"kl": far[:, None], "gold": np.array(reward).T[:, None]}


def at_kl(curves: Curves, level: float) -> np.ndarray:
    """Gold of a method at a KL in each world, f64[S]."""
    return frontier(curves["kl"], curves["gold"], level)


def summarise(curves: Mapping[tuple[str, str], Curves], best: Curves) -> dict[str, Any]:
    """The results as JSON values.

    Args:
        curves: (method, teacher) -> its runs.
        best: of `optimum`.

    Returns:
        `rows`: of each method and teacher gold at each of `EQUAL_KL`, and the difference to
        DPO, paired by world; `corrected`: p of these by Holm's procedure, at each KL of
        "METHOD TEACHER"; `curves`: gold over `GRID`; `runs`: means over worlds of every
        strength's measurements; `optimum`: gold over `GRID`.
    """
    base = {kl: at_kl(curves[BASE, COMPARISONS], kl) for kl in EQUAL_KL}
    rows, lines, runs = [], [], []
    differences: dict[float, dict[str, np.ndarray]] = {kl: {} for kl in EQUAL_KL}
    for (name, teacher), runs_of in curves.items():
        at = {kl: at_kl(runs_of, kl) for kl in EQUAL_KL}
        own = (name, teacher) == (BASE, COMPARISONS)
        for kl in EQUAL_KL:
            if not own and np.isfinite(at[kl] - base[kl]).all():
                differences[kl][f"{name} {teacher}"] = at[kl] - base[kl]
        rows.append(
            {
                "method": name,
                "teacher": teacher,
                "gold": [interval(at[kl]) for kl in EQUAL_KL],
                "against": [None if own else interval(at[kl] - base[kl]) for kl in EQUAL_KL],
                "by_seed": [at[kl].tolist() if interval(at[kl]) else None for kl in EQUAL_KL],
            }
        )
        lines.append({"method": name, "teacher": teacher, **line(runs_of)})
        own_strengths = METHODS[name].strengths if name in METHODS else (None,)
        runs += [
            {"method": name, "teacher": teacher, "strength": strength,
             "kl": runs_of["kl"][:, a].mean(0).tolist(),
             "gold": runs_of["gold"][:, a].mean(0).tolist()}
            for a, strength in enumerate(own_strengths[: runs_of["kl"].shape[1]])
        ]  # fmt: skip
    return {
        "seeds": len(best["kl"]),
        "equal_kl": list(EQUAL_KL),
        "corrected": [adjusted(differences[kl]) for kl in EQUAL_KL],
        "base": BASE,
        "rows": rows,
        "curves": lines,
        "runs": runs,
        "optimum": line(best),
    }


def line(curves: Curves) -> dict[str, list]:
    """`kl` and intervals of `gold` where all worlds get to."""
    found = {kl: interval(at_kl(curves, kl)) for kl in GRID}
    there = {kl: x for kl, x in found.items() if x is not None}
    return {"kl": list(there), "gold": list(there.values())}
