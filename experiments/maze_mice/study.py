"""The study of `experiments.maze_mice`: sessions, predictions, rewards, control, summary."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.maze_mice.config import Config
from experiments.maze_mice.irl import Model, count, fit, fits, log_likelihood
from experiments.maze_mice.maze import LEAVES, NODES, Maze, make_maze, read_session, visits
from experiments.maze_mice.report import conclusion, write_report
from irl_jax.eval.intervals import Interval, bootstrap
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError

COUNTING = "counting turns"
REMEMBERING = "counting turns, last node known"
AT = ("with water", "without water")


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    if config.data is None:
        raise InputError("data: no file of sessions; give one, --data nodes.npz")
    if config.port not in LEAVES:
        raise InputError(f"port: {config.port} is no dead end; they are 63 to 126")
    names = dict(zip(AT, (config.with_water, config.without_water), strict=True))
    sessions = {at: read_session(config.data, name) for at, name in names.items()}
    for at, bouts in sessions.items():
        if len(bouts) < config.folds:
            raise InputError(f"folds: {config.folds} of {len(bouts)} bouts, {names[at]}; lower it")
    launch(config, partial(experiment, config, sessions), conclusion, inputs={"data": config.data})


def experiment(
    config: Config,
    sessions: dict[str, list[list[int]]],
    run: RunDirectory,
    progress: Progress,
) -> None:
    """Predicts bouts that were left out, infers rewards, permutes bouts, reports."""
    clock = Clock(run.path / "seconds.json")
    plain, memory = (make_maze(memory=each, discount=config.fit.discount) for each in (False, True))
    models = models_of(config, plain, memory)
    advance = progress.stage("sessions", 2)
    predicted: dict[str, Any] = {}
    with clock("predict"):
        for done, (at, bouts) in enumerate(sessions.items(), start=1):
            scores = {
                name: held_out_bits(config, maze, model, visits(maze, bouts))
                for name, (maze, model) in models.items()
            }
            predicted[at] = predictions(scores)
            advance(done, {})
    with clock("rewards"):
        found = {at: visits(plain, bouts) for at, bouts in sessions.items()}
        rewards = kept(run, "rewards", partial(resampled, config, plain, found))
    with clock("control"):
        moved = kept(run, "permuted", partial(permuted, config, plain, found))
    peaks = {at: peak(config.port, rewards[at]) for at in AT}
    apart = peaks[AT[0]] - peaks[AT[1]]
    control = np.diff([peak(config.port, moved[at]) for at in AT], axis=0)[0]
    summary = {
        "bouts": {at: len(bouts) for at, bouts in sessions.items()},
        "turns": {at: sum(len(nodes) - 2 for nodes in bouts) for at, bouts in sessions.items()},
        "port": config.port,
        "predicted": predicted,
        "peak": {at: interval(peaks[at]) for at in AT},
        "rank": {at: rank(config.port, rewards[at][0]) for at in AT},
        "peaks_apart": interval(apart),
        "p": float((1 + (np.abs(control) >= abs(apart[0])).sum()) / (1 + len(control))),
        "permutations": len(control),
        "way": way(config.port, rewards),
        "seconds": clock.seconds,
    }
    seen = {at: visits_of_nodes(bouts) for at, bouts in sessions.items()}
    write_report(run, as_json(summary), {at: rewards[at][0] for at in AT}, seen)
    run.finish(as_json(summary))


def visits_of_nodes(bouts: list[list[int]]) -> np.ndarray:
    """How often a bout visits each node, f64[127]."""
    nodes = np.concatenate([nodes[1:] for nodes in bouts])
    return np.bincount(nodes, minlength=NODES)[:NODES] / len(bouts)


def models_of(config: Config, plain: Maze, memory: Maze) -> dict[str, tuple[Maze, Model]]:
    """What predicts turns: name -> the maze as it knows it, and visits -> policies."""

    def infer(maze: Maze, *places: str, intentions: int = 1) -> tuple[Maze, Model]:
        return maze, lambda *seen: fit(maze, config.fit, places, *seen, intentions=intentions)[1]

    return {
        COUNTING: (plain, partial(count, plain, config.pseudo_count)),
        REMEMBERING: (memory, partial(count, memory, config.pseudo_count)),
        "a reward of each node": infer(plain, "node"),
        "two intentions, each a reward of each node": infer(plain, "node", intentions=2),
        "a reward of each node and manner, last node known": infer(memory, "node", "manner"),
        "a reward of each turn, last node known": infer(memory, "turn"),
        "two intentions, each a reward of each turn": infer(memory, "turn", intentions=2),
    }


def held_out_bits(config: Config, maze: Maze, model: Model, seen: np.ndarray) -> np.ndarray:
    """Bits of each bout's decisions, and how many they were, f64[B, 2].

    A bout is predicted from the bouts of other folds. Where there is one way only, nothing is
    decided.
    """
    fold = np.random.default_rng(config.seed).permutation(len(seen)) % config.folds

    @jax.jit  # of arguments alone, so that sessions of as many bouts share a compiled program
    def told(visits: jax.Array, fold: jax.Array) -> jax.Array:
        def one(number: jax.Array) -> jax.Array:
            policies = model(visits, fold != number)
            each = lambda bout: log_likelihood(policies, bout[None], jnp.ones(1, bool))
            return jax.vmap(each)(visits)

        return jax.lax.map(one, jnp.arange(config.folds))

    nats = np.asarray(told(seen, fold))
    decides = maze.allowed.sum(-1, keepdims=True) > 1
    decided = np.where(decides, seen, 0.0).sum((1, 2))
    bits = nats[fold, np.arange(len(seen))] / np.log(2)
    return np.stack([bits, decided], -1).astype(np.float64)


def predictions(scores: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Of each model bits a decision, and how many more than by either way to count, over bouts."""
    share: Any = lambda rows: rows[:, 0].sum() / rows[:, 1].sum()

    def ahead(name: str, baseline: str) -> Interval | None:
        if name == baseline:
            return None
        bits, decisions = scores[name].T
        return bootstrap(np.stack([bits - scores[baseline][:, 0], decisions], -1), share)

    return {
        name: {
            "bits": bootstrap(rows, share),
            "against": [ahead(name, baseline) for baseline in (COUNTING, REMEMBERING)],
        }
        for name, rows in scores.items()
    }


def resampled(config: Config, maze: Maze, seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Session -> rewards of the nodes, f32[1 + R, 128]: of all bouts, then of bouts redrawn."""
    found = {}
    for number, (at, bouts) in enumerate(seen.items()):
        rng = np.random.default_rng([config.seed, 1, number])
        draws = rng.integers(0, len(bouts), (config.resamples, len(bouts)))
        samples = np.stack([bouts.sum(0), *(bouts[draw].sum(0) for draw in draws)])
        found[at] = fits(maze, config.fit, samples)
    return found


def permuted(config: Config, maze: Maze, seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Session -> rewards f32[P, 128] if it were chance which of the sessions a bout was in."""
    rng = np.random.default_rng([config.seed, 2])
    bouts, first = np.concatenate(list(seen.values())), len(seen[AT[0]])
    orders = [rng.permutation(len(bouts)) for _ in range(config.permutations)]
    halves = zip(AT, (np.s_[:first], np.s_[first:]), strict=True)
    return {
        at: fits(maze, config.fit, np.stack([bouts[order[half]].sum(0) for order in orders]))
        for at, half in halves
    }


def peak(port: int, rewards: np.ndarray) -> np.ndarray:
    """Reward of the port less the mean of the other dead ends, f[N]; rewards f[N, 128]."""
    others = [leaf for leaf in LEAVES if leaf != port]
    return rewards[:, port] - rewards[:, others].mean(-1)


def rank(port: int, reward: np.ndarray) -> int:
    """1 if no dead end has a higher reward than the port."""
    return 1 + int((reward[list(LEAVES)] > reward[port]).sum())


def way(port: int, rewards: dict[str, np.ndarray]) -> dict[str, Any]:
    """Rewards of the nodes on the way from the entrance to the port, by session."""
    nodes = [port]
    while nodes[0]:
        nodes.insert(0, (nodes[0] - 1) // 2)
    return {"nodes": nodes} | {
        at: [interval(found[:, node]) for node in nodes] for at, found in rewards.items()
    }


def interval(values: np.ndarray) -> Interval:
    """The first value, and 95 % of the others, which are of redrawn bouts."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Interval(float(values[0]), float(low), float(high))
