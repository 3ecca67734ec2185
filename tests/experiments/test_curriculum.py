"""Which questions are practised: by level, by what they teach, by how much is given."""

import json
from dataclasses import replace
from itertools import islice

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.arithmetic.chain_sums import decode, prompts, solve
from experiments.curriculum import arms, study
from experiments.curriculum.arms import (
    ARMS,
    BANDIT,
    FILTERED,
    HARDEST,
    REVERSE,
    RISING,
    UNIFORM,
    World,
    beginning,
    drawn,
    levels_of,
)
from experiments.curriculum.config import CONFIG
from irl_jax.train.progress import Progress
from irl_jax.types import Group, InputError

TINY = replace(
    CONFIG, seeds=2, terms=(2, 3), lessons=(8, 8), questions=8, width=8, layers=1, shown=10,
    shown_batch=8, prompts=4, completions=2, batches=10, attempts=2, stages=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def world():
    return World(TINY, 1, Progress())


def asked_in(batch):
    """The questions of a batch, and what is given of their solutions."""
    texts = [decode(row).split("=", 1) for row in batch.tokens.tolist()]
    return [text for text, _ in texts], [given for _, given in texts]


def group_of(context, reward):
    """A group of which only the questions and rewards are read."""
    b, k = np.shape(reward)
    zero = jnp.zeros((b, k, 3))
    return Group(
        context=context, action=zero.astype(int), mask=zero > 0, logp=zero,
        reward=jnp.asarray(reward, jnp.float32), terminated=jnp.ones((b, k), bool),
    )  # fmt: skip


def practised(world, name, monkeypatch, reward):
    """The batches of an arm, where the group of batch i is rewarded by reward(i, levels).

    Returns:
        Questions that were asked, what was given, and rewards that were learned from, by batch;
        and the number of updates.
    """
    asked, given, learned, updates = [], [], [], []

    def reinforced(model, batches, practice, *, choose, **rest):
        for number, batch in zip(range(practice.steps), batches, strict=False):
            group = group_of(batch, reward(number, levels_of(world, group_of(batch, [[0.0]]))))
            for found, new in zip((asked, given), asked_in(batch), strict=True):
                found.append(new)
            learned.append(np.asarray(choose(group).reward))
        updates.append(practice.steps)
        return model

    monkeypatch.setattr(arms, "reinforced", reinforced)
    ARMS[name](world, Progress(), name)
    return asked, given, learned, updates[0]


def level(question):
    return TINY.terms.index(question.count("+") + question.count("-") + (question[0] != "-"))


def alike(number, levels):
    return np.tile([0.0, 1.0], (len(levels), 1))


def test_levels_are_drawn_as_often_as_asked(world):
    batches = list(islice(drawn(world, lambda n: np.array([0.25, 0.75]), 4), 300))
    share = np.mean([level(text) for batch in batches for text in asked_in(batch)[0]])
    assert share == pytest.approx(0.75, abs=4.5 * np.sqrt(0.25 * 0.75 / 1200))
    for batch in batches:
        texts = asked_in(batch)[0]
        assert len(set(texts)) == 4
        assert levels_of(world, group_of(batch, [[0.0]])).tolist() == [*map(level, texts)]


@pytest.mark.parametrize(
    ("name", "first", "last"), [(HARDEST, {1}, {1}), (RISING, {0}, {1}), (UNIFORM, {0, 1}, {0, 1})]
)
def test_levels_that_are_fixed(world, monkeypatch, name, first, last):
    asked, given, _, updates = practised(world, name, monkeypatch, alike)
    assert updates == TINY.batches == len(asked)
    levels = [{*map(level, batch)} for batch in asked]
    assert set.union(*levels[:5]) == first
    assert set.union(*levels[5:]) == last
    assert {text for batch in given for text in batch} == {""}


def test_the_filter_keeps_what_has_most_to_teach(world, monkeypatch):
    """Of twice as many questions, in half the updates."""
    shares = np.array([0.0, 0.5, 1.0, 0.25, 0.5, 0.75, 0.0, 0.5])

    def reward(number, levels):
        return np.arange(4) < 4 * shares[:, None]

    asked, _, learned, updates = practised(world, FILTERED, monkeypatch, reward)
    assert updates == 5 and {len(batch) for batch in asked} == {8}
    for rewards in learned:
        means = rewards.mean(-1)
        assert rewards.shape == (4, 4) and sorted(means)[1:] == [0.5, 0.5, 0.5]
        assert min(means) in (0.25, 0.75) or max(means) == 0.75


def test_the_bandit_goes_where_answers_differ(world, monkeypatch):
    def reward(number, levels):
        return np.where(levels[:, None] == 1, [[0.0, 1.0]], [[1.0, 1.0]])

    asked = practised(world, BANDIT, monkeypatch, reward)[0]
    share = [np.mean([*map(level, batch)]) for batch in asked]
    assert np.mean(share[3:]) > 0.85 and {*map(level, asked[0])} == {0, 1}


def test_less_is_given_in_every_stage(world, monkeypatch):
    asked, given, _, _ = practised(world, REVERSE, monkeypatch, alike)
    for number, (texts, begun) in enumerate(zip(asked, given, strict=True)):
        stage = 1 + number // 2
        for text, start in zip(texts, begun, strict=True):
            question = solve(text)
            assert level(text) == 1
            assert start == question.solution[: (len(question.solution) + 1) * (5 - stage) // 5]
            assert start == beginning(question, stage, 5)
    assert set(given[-1]) == {""}


def test_accuracy_is_of_each_level(world):
    found = world.accuracy(world.model)
    assert len(found) == 2 and all(0 <= x <= 1 for x in found)
    lines = prompts(world.practised[0], world.practice(1).width)
    assert {level(text) for text in asked_in(lines)[0]} == {0}


@pytest.mark.slow
def test_the_whole_in_small(tmp_path, capsys, monkeypatch):
    few = {name: ARMS[name] for name in (UNIFORM, FILTERED)}
    monkeypatch.setattr(study, "ARMS", few)
    config = replace(TINY, run_dir=tmp_path / "run")
    study.main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    found = []
    for number in range(2):
        with np.load(config.run_dir / f"model_{number}.npz") as kept:
            found.append(kept["accuracy"])
    assert np.shape(found) == (2, 3, 2)
    rows = summary["accuracy"]
    assert list(rows) == ["before", *few]
    means = [[row[f"{terms} terms"][0] for terms in TINY.terms] for row in rows.values()]
    np.testing.assert_allclose(means, np.mean(found, 0), atol=1e-6)
    gain = summary["gain"]["all levels"][FILTERED][0]
    assert gain == pytest.approx(np.mean(means[2]) - np.mean(means[1]), abs=1e-6)
    assert (config.run_dir / "report.html").read_text().count("<figure>") == 3
    capsys.readouterr()
    study.main(config)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "seeds"),
        ({"terms": (3, 2)}, r"terms: expected rising numbers from 2, got \[3, 2\]"),
        ({"lessons": (8,)}, "lessons: expected a number for each of 2 levels"),
        ({"shown_batch": 20}, "shown_batch: 20 is more than all lessons, 16"),
        ({"stages": 11}, "stages"),
        ({"questions": 7}, "questions"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


def test_too_few_questions_are_refused():
    with pytest.raises(InputError, match="questions: 2 terms make 200 different ones, fewer than"):
        World(replace(TINY, questions=500), 0, Progress())
