"""Credit in corridors, beside all strings of actions of a short one."""

import itertools
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.credit_assignment import study
from experiments.credit_assignment.arms import (
    ARMS,
    BATCH,
    CHAIN,
    EXACT,
    ROLLOUTS,
    TERMINAL,
    TREE,
    VINE,
    VINE_ALL,
)
from experiments.credit_assignment.config import CONFIG
from experiments.credit_assignment.runs import END, ERROR, KINDS, LEARNED, tasks_of
from experiments.credit_assignment.worlds import exact, make_tasks, of_actions, roll, success
from irl_jax.types import InputError

TINY = replace(CONFIG, seeds=2, tuning=2, steps=8, budget=1200, rates=(0.1, 3.0))
STEPS = 4


@pytest.fixture(scope="module")
def short():
    """A corridor of four steps with two forks, and a policy."""
    tasks = make_tasks([[0]], steps=STEPS, forks=2, doubtful=1, sure=0.9, worth=[0.8, 0.5, 0.1])
    task = jax.tree.map(lambda x: x[0], tasks)
    logits = jnp.asarray(np.random.default_rng(1).standard_normal((STEPS, 4)), jnp.float32)
    return task, logits


def by_hand(task, logits):
    """V before each step and Q, by the number of wrong actions: from all strings that follow."""
    policy = np.asarray(jax.nn.softmax(logits), np.float64)
    fork, right, worth = (np.asarray(x) for x in (task.fork, task.right, task.worth))

    def value(t, wrong):
        total = 0.0
        for word in itertools.product(range(4), repeat=STEPS - t):
            prob = np.prod([policy[t + i, a] for i, a in enumerate(word)])
            more = sum(fork[t + i] and a != right[t + i] for i, a in enumerate(word))
            total += prob * worth[min(wrong + more, len(worth) - 1)]
        return total

    def after(t, wrong, action):
        return value(t + 1, wrong + int(fork[t] and action != right[t]))

    v = np.array([[value(t, w) for w in range(2)] for t in range(STEPS)])
    q = np.array([[[after(t, w, a) for a in range(4)] for w in range(2)] for t in range(STEPS)])
    return v, q


def test_values_are_those_of_all_strings(short):
    task, logits = short
    v, q = by_hand(task, logits)
    value, action_value = exact(task, logits)
    np.testing.assert_allclose(value[:STEPS, :2], v, rtol=1e-5)
    np.testing.assert_allclose(action_value[:, :2], q, rtol=1e-5)
    assert float(success(task, logits)) == pytest.approx((v[0, 0] - 0.1) / 0.7, rel=1e-4)
    best = jnp.where(jax.nn.one_hot(task.right, 4) > 0, 0.0, -jnp.inf)
    assert float(success(task, best)) == pytest.approx(1.0)


def test_episodes_and_rollouts_count_what_was_wrong(short):
    """And are rewarded as often as they should be."""
    task, logits = short
    start, wrong = jnp.repeat(jnp.array([0, 2]), 4000), jnp.repeat(jnp.array([0, 1]), 4000)
    episodes = jax.jit(roll)(task, logits, start, wrong, jax.random.key(0))
    missed = np.array(task.fork & (episodes.action != task.right))
    missed &= np.arange(STEPS) >= np.asarray(start)[:, None]
    after = np.asarray(wrong)[:, None] + missed.cumsum(1)
    np.testing.assert_array_equal(episodes.after, after)
    np.testing.assert_array_equal(episodes.wrong, after - missed)
    v, _ = by_hand(task, logits)
    found = np.asarray(episodes.reward).reshape(2, -1).mean(1)
    np.testing.assert_allclose(found, [v[0, 0], v[2, 1]], atol=4.5 * 0.5 / np.sqrt(4000))


@pytest.fixture(scope="module")
def steps(short):
    """What each arm does with the policy, in 60 draws."""
    task, logits = short
    names = [TERMINAL, VINE_ALL, CHAIN, TREE, EXACT]

    @jax.jit
    def play(keys):
        one = lambda name, key: ARMS[name].step(ARMS[name].init(STEPS, key), task, logits, key)
        return {name: jax.vmap(lambda key, n=name: one(n, key))(keys) for name in names}

    return play(jax.random.split(jax.random.key(0), 60))


def test_steps_of_rollouts_are_counted(steps):
    for name in (TERMINAL, VINE_ALL, TREE, EXACT):
        assert (np.asarray(steps[name].cost) == ARMS[name].cheapest(STEPS)).all()
    assert ARMS[TERMINAL].cheapest(STEPS) == BATCH * STEPS
    assert ARMS[VINE_ALL].cheapest(STEPS) == BATCH * (STEPS + ROLLOUTS * (4 + 3 + 2 + 1))
    assert ARMS[VINE].cheapest(20) == BATCH * (20 + ROLLOUTS * (20 + 15 + 10 + 5))
    assert ARMS[TREE].cheapest(20) == 5 * (2 + 4 + 8 + 16)
    least, most = ARMS[CHAIN].cheapest(STEPS), ARMS[VINE_ALL].cheapest(STEPS)
    assert ((least <= steps[CHAIN].cost) & (steps[CHAIN].cost <= most)).all()


@pytest.mark.parametrize("name", [TERMINAL, VINE_ALL, TREE, EXACT])
def test_the_mean_gradient_of_an_arm_is_the_exact_one(short, steps, name):
    """Within its error; in a tree half of it: of two siblings each is half of the baseline."""
    task, logits = short
    policy = np.asarray(jax.nn.softmax(logits))
    did = steps[name]
    slopes = np.eye(4)[np.asarray(did.episodes.action)] - policy
    each = (np.asarray(did.credit)[..., None] * slopes).mean(1)
    expected = np.asarray(jax.grad(lambda x: exact(task, x)[0][0, 0])(logits))
    expected = expected / 2 if name == TREE else expected
    error = each.std(0, ddof=1) / np.sqrt(len(each))
    assert (np.abs(each.mean(0) - expected) < 4.5 * error + 1e-6).all()
    assert np.abs(expected).max() > 0.02


def test_exact_advantages_are_told(short, steps):
    task, logits = short
    value, q = exact(task, logits)
    did = jax.tree.map(lambda x: x[0], steps[EXACT])
    expected = of_actions(q - value[:-1, :, None], did.episodes)
    np.testing.assert_allclose(did.credit, expected, atol=1e-6)


def test_a_corridor_is_as_it_is_asked_for():
    tasks = tasks_of(CONFIG, "two forks, both needed", 0, 5)
    first = np.exp(np.asarray(tasks.first))
    np.testing.assert_allclose(first.sum(-1), 1.0, rtol=1e-5)
    doubtful = np.isclose(first.max(-1), 0.25)
    assert (doubtful.sum(1) == 6).all() and (np.asarray(tasks.fork).sum(1) == 2).all()
    assert doubtful[np.asarray(tasks.fork)].all()
    np.testing.assert_allclose(tasks.worth[0], [0.75, 0.25, 0.25, 0.25, 0.25, 0.25])


def test_the_whole_in_small(tmp_path, capsys, monkeypatch):
    arms = {name: ARMS[name] for name in (TERMINAL, EXACT)}
    monkeypatch.setattr(study, "ARMS", arms)
    config = replace(TINY, run_dir=tmp_path / "run")
    study.main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    with np.load(config.run_dir / "measures.npz") as kept:
        found = {name: kept[name] for name in kept}
    assert found[LEARNED].shape == found[END].shape == (len(KINDS), 2, 2)
    assert (found[LEARNED] <= 1.2).all() and np.isfinite(found[ERROR]).all()
    np.testing.assert_allclose(found[ERROR][:, 1], 0.0, atol=1e-5)
    for at, kind in enumerate(KINDS):
        row = summary["measured"][kind][EXACT]
        assert row[LEARNED][0] == pytest.approx(found[LEARNED][at, 1].mean(), rel=1e-6)
        assert set(summary["saved"][kind]) == set(summary["p"][kind]) == {EXACT}
    assert (config.run_dir / "report.html").read_text().count("<figure>") == 6
    capsys.readouterr()
    study.main(config)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "seeds"),
        ({"rates": ()}, "rates"),
        ({"rates": (0.0,)}, "rates"),
        ({"steps": 9}, "steps: expected a multiple of 4"),
        ({"steps": 4}, "steps"),
        ({"sure": 1.1}, "sure"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        replace(CONFIG, **change)
