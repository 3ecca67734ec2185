"""Rewards of places in the labyrinth, from mice whose reward is known."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.maze_mice.config import CONFIG, FitConfig
from experiments.maze_mice.irl import Policies, count, fit, fits, log_likelihood, plan
from experiments.maze_mice.maze import (
    LEAVES,
    MANNERS,
    NODES,
    OUTSIDE,
    layout,
    make_maze,
    neighbours,
    read_session,
    visits,
)
from experiments.maze_mice.study import held_out_bits, main, peak, rank
from irl_jax.types import InputError

PORT = 100
QUICK = FitConfig(steps=60, lr=0.2)


def walk(rng, logp, maze, longest: int = 120) -> list[int]:
    """A bout: nodes from outside to outside, or as far as it came."""
    nodes = [OUTSIDE, 0]
    while nodes[-1] != OUTSIDE and len(nodes) < longest:
        state = maze.state[nodes[-2], nodes[-1]]
        nodes.append(int(maze.enters[state, rng.choice(3, p=np.exp(logp[state]))]))
    return nodes


def mice(seed: int, bouts: int, **planted: float) -> list[list[int]]:
    """Bouts of mice to whom the port is worth 3, or what is asked for."""
    maze = make_maze(memory=True, discount=CONFIG.fit.discount)
    reward = {
        "node": jnp.zeros(NODES + 1).at[PORT].set(planted.pop("port", 3.0)),
        "manner": jnp.array([planted.get(name, 0.0) for name in ("on", "up", "down", "across")]),
    }
    logp = np.asarray(jax.jit(partial(plan, maze))(reward).logp, np.float64)
    logp -= np.log(np.exp(logp).sum(-1, keepdims=True))
    rng = np.random.default_rng(seed)
    return [walk(rng, logp, maze) for _ in range(bouts)]


def write(path: Path, **sessions: list[list[int]]) -> Path:
    """Sessions in the form of the data: without the node outside that a bout begins at."""
    arrays = {}
    for name, bouts in sessions.items():
        arrays[f"{name}_node"] = np.concatenate([nodes[1:] for nodes in bouts]).astype(np.int16)
        numbers = np.arange(len(bouts), dtype=np.int16)
        arrays[f"{name}_bout"] = np.repeat(numbers, [len(nodes) - 1 for nodes in bouts])
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("memory", [False, True])
def test_ways_lead_to_neighbours_and_back(memory):
    maze = make_maze(memory=memory, discount=0.9)
    assert len(maze.allowed) == (2 * (NODES - 1) + 1 if memory else NODES)
    for (before, node), state in maze.state.items():
        for action, to in enumerate(neighbours(node)):
            assert maze.allowed[state, action] == (to is not None)
            if to is not None and to != OUTSIDE:
                assert node in neighbours(to)
                assert maze.enters[state, action] == to
                assert maze.mdp.successor[state, action, 0] == maze.state[node, to]
                assert maze.mdp.discount[state, action] == pytest.approx(0.9)
                if memory and node not in LEAVES:
                    manner = maze.places["manner"][0][state, action]
                    assert MANNERS[manner].startswith("back") == (to == before)
    leaving = maze.state[1, 0], 0
    assert maze.enters[leaving] == OUTSIDE and maze.mdp.discount[leaving] == 0


def test_the_map_is_of_ways_that_do_not_cross():
    at, ways = layout()
    assert sorted(ways) == [(n, to) for n in range(NODES) for to in neighbours(n)[1:] if to]
    assert len(np.unique(at, axis=0)) == NODES
    spans = at[np.array(ways)]  # f64[126, 2 ends, 2]
    long = np.abs(np.diff(spans, axis=1)[:, 0])
    assert (np.sort(long)[:, 0] == 0).all()  # along one axis
    inside = [
        node for (a, b), way in zip(ways, spans, strict=True) for node in range(NODES)
        if node not in (a, b) and ((way.min(0) <= at[node]) & (at[node] <= way.max(0))).all()
    ]  # fmt: skip
    assert not inside


def test_a_session_is_read_as_it_was_written(tmp_path):
    bouts = mice(0, 5)
    assert read_session(write(tmp_path / "nodes.npz", a=bouts), "a") == bouts
    for memory in (False, True):
        maze = make_maze(memory=memory, discount=0.9)
        found = visits(maze, bouts)
        assert found.sum((1, 2)).tolist() == [len(nodes) - 2 for nodes in bouts]
        assert not found[:, ~maze.allowed].any()
        entered = np.bincount(maze.enters.ravel(), found.sum(0).ravel(), NODES + 1)
        counted = np.bincount([n for nodes in bouts for n in nodes[2:]], minlength=NODES + 1)
        np.testing.assert_array_equal(entered, counted)


def test_a_planted_reward_is_found():
    """The port stands out to mice who want it, and not to those who do not."""
    maze = make_maze(memory=False, discount=CONFIG.fit.discount)
    peaks = {}
    for port in (3.0, 0.0):
        reward = fits(maze, QUICK, visits(maze, mice(1, 60, port=port)).sum(0, keepdims=True))[0]
        peaks[port] = float(peak(PORT, reward[None])[0])
        if port:
            assert rank(PORT, reward) == 1
    assert peaks[3.0] > 1.5 > 0.75 > abs(peaks[0.0])


def test_what_mice_know_tells_their_turns():
    """Mice who never turn back are told better by those who see where they came from."""
    bouts = mice(2, 24, up=-3.0, down=-3.0)
    plain, memory = (make_maze(memory=each, discount=CONFIG.fit.discount) for each in (False, True))
    infer = lambda maze, *places: lambda *seen: fit(maze, QUICK, places, *seen)[1]
    bits = {
        name: (found := held_out_bits(replace(CONFIG, folds=2), maze, model, visits(maze, bouts)))[
            :, 0
        ].sum()
        / found[:, 1].sum()
        for name, maze, model in (
            ("count", plain, partial(count, plain, 0.5)),
            ("reward", plain, infer(plain, "node")),
            ("manners", memory, infer(memory, "node", "manner")),
        )
    }
    assert bits["manners"] > max(bits["count"], bits["reward"]) + 0.3
    assert bits["reward"] > -np.log2(3) - 0.2


def test_mice_of_two_kinds_are_told_apart():
    """Some never turn back, some like to: two intentions say so, and which mouse has which."""
    maze = make_maze(memory=True, discount=CONFIG.fit.discount)
    on, back = (mice(seed, 8, port=0.0, up=x, down=x) for seed, x in ((5, -3.0), (6, 2.0)))
    bouts, kept = visits(maze, on + back), np.ones(16, bool)
    config = replace(QUICK, starts=2)
    one, two = (fit(maze, config, ["manner"], bouts, kept, intentions=m)[1] for m in (1, 2))
    told = [float(log_likelihood(policies, bouts, kept)) for policies in (one, two)]
    assert told[1] > told[0] + 16 * np.log(2)
    of_each = [
        [float(log_likelihood(Policies(logp[None], jnp.zeros(1)), bout[None], kept[:1]))
         for logp in two.logp]
        for bout in bouts
    ]  # fmt: skip
    kind = np.argmax(of_each, -1)
    assert len(set(kind[:8])) == len(set(kind[8:])) == 1 and kind[0] != kind[8]


def test_the_whole_in_small(tmp_path, capsys):
    data = write(tmp_path / "nodes.npz", wet=mice(3, 12), dry=mice(4, 12, port=0.0))
    config = replace(
        CONFIG, data=data, run_dir=tmp_path / "run", with_water="wet", without_water="dry",
        port=PORT, folds=2, resamples=3, permutations=3, fit=replace(QUICK, steps=8),
    )  # fmt: skip
    main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    assert summary["bouts"] == {"with water": 12, "without water": 12}
    assert summary["way"]["nodes"] == [0, 2, 5, 11, 24, 49, 100]
    with np.load(config.run_dir / "rewards.npz") as kept:
        found = {at: kept[at] for at in kept}
    for at, rewards in found.items():
        assert rewards.shape == (1 + 3, NODES + 1)
        assert summary["peak"][at][0] == pytest.approx(float(peak(PORT, rewards)[0]), rel=1e-5)
    assert summary["peaks_apart"][0] == pytest.approx(
        summary["peak"]["with water"][0] - summary["peak"]["without water"][0], rel=1e-4
    )
    assert 0.25 <= summary["p"] <= 1
    for models in summary["predicted"].values():
        assert all(-3 < found["bits"][0] < 0 for found in models.values())
    html = (config.run_dir / "report.html").read_text()
    assert html.count("<figure>") == 3 and "node 100" in html
    capsys.readouterr()
    main(config)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": None}, "data: no file of sessions"),
        ({"with_water": "D7"}, "has no D7_node"),
        ({"port": 5}, "port: 5 is no dead end"),
        ({"folds": 9}, "folds: 9 of 3 bouts, dry"),
        ({"with_water": "broken"}, r"broken, bout 0: a step from 0 to 5, which are no neighbours"),
    ],
)
def test_bad_input(change, message, tmp_path):
    bouts = [[OUTSIDE, 0, 1, 0, OUTSIDE]]
    data = write(tmp_path / "nodes.npz", wet=12 * bouts, dry=3 * bouts, broken=[[OUTSIDE, 0, 5]])
    config = replace(CONFIG, data=data, run_dir=tmp_path / "run", with_water="wet", folds=2)
    with pytest.raises(InputError, match=message):
        main(replace(replace(config, without_water="dry"), **change))
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_none(tmp_path):
    path, array = tmp_path / "nodes.npz", tmp_path / "one.npy"
    whole = write(path, D9a=[[OUTSIDE, 0, 1]]).read_bytes()
    np.save(array, np.zeros(3))
    for content in (b"PK", b"x", whole[: len(whole) // 2], array.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"nodes\.npz: damaged .*; give an \.npz of sessions"):
            read_session(path, "D9a")
    with pytest.raises(InputError, match=r"none\.npz: no such file"):
        read_session(tmp_path / "none.npz", "D9a")
