"""What a proposer writes is practised, what is random in its place; what it is worth."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.arithmetic.chain_sums import EOS, decode, encode, solve
from experiments.proposer_solver import arms
from experiments.proposer_solver.arms import (
    ALIKE,
    PROPOSED,
    RANDOM,
    Proposer,
    World,
    terms_of,
    texts,
    trained,
    worth_of,
)
from experiments.proposer_solver.config import CONFIG
from experiments.proposer_solver.study import main, summarise
from irl_jax.train.progress import Progress
from irl_jax.types import Group, InputError, Prompt

TINY = replace(
    CONFIG, seeds=2, lessons=8, held_out=8, width=8, layers=1, shown=10, shown_batch=8, prompts=4,
    completions=2, batches=5, attempts=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def world():
    return World(TINY, 1, Progress())


def group_of(written, ended):
    """What a proposer wrote, a row each."""
    width = 1 + max(map(len, written))
    ids = [encode(text) + [EOS] * end for text, end in zip(written, ended, strict=True)]
    action = np.array([[row + [EOS] * (width - len(row)) for row in ids]])
    mask = np.array([[np.arange(width) < len(row) for row in ids]])
    zero = jnp.zeros(mask.shape)
    return Group(
        context=Prompt(tokens=np.array([encode("=")]), mask=np.ones((1, 1), bool)),
        action=jnp.asarray(action), mask=jnp.asarray(mask), logp=zero,
        reward=zero[..., 0], terminated=jnp.array([ended]),
    )  # fmt: skip


def solved(rewards):
    """A group of which only the rewards are read."""
    zero = jnp.zeros((*np.shape(rewards), 3))
    return Group(None, zero, zero > 0, zero, jnp.asarray(rewards, jnp.float32), zero[..., 0] > 0)


def test_what_is_cut_is_no_proposal():
    assert texts(group_of(["1+2", "3-4", "+"], [True, False, True])) == ["1+2", "", "+"]


def test_a_task_is_a_sum_that_is_not_held_out(world):
    kept = world.held_out[0][0].text[:-1]
    assert world.task(kept) is None
    shown = world.lessons[0].text[:-1]
    assert world.task(shown) == world.lessons[0]
    for bad in ("", "1", "1+", "1+2+3+4", "12+1", "1*2", "1+2="):
        assert world.task(bad) is None
    assert {terms_of(question) for question in world.lessons} == {2, 3}
    asked = {question.text for level in world.held_out for question in level}
    assert not asked & {question.text for question in world.lessons}


def test_sums_that_are_drawn_have_so_many_numbers_and_are_not_held_out(world):
    rng = np.random.default_rng(0)
    kept = {question.text for level in world.held_out for question in level}
    for terms in (2, 3):
        drawn = [world.drawn(rng, terms) for _ in range(300)]
        assert {terms_of(question) for question in drawn} == {terms}
        assert not kept & {question.text for question in drawn}
        assert len({question.text for question in drawn}) > 100


def test_a_proposal_is_worth_most_where_it_is_half_solved_and_alone():
    right = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]], bool)
    valid, often = np.array([1, 1, 1, 1, 0], bool), np.array([1, 1, 1, 1, 1])
    found = worth_of(jnp.asarray(right), jnp.asarray(valid), jnp.asarray(often))
    np.testing.assert_allclose(found, [1.0, 0.5, 0.0, 0.0, -1.0])
    often = np.array([2, 2, 1, 1, 1])
    found = worth_of(jnp.asarray(right), jnp.asarray(valid), jnp.asarray(often))
    np.testing.assert_allclose(found, [0.5, 0.25, 0.0, 0.0, -1.0])


@pytest.fixture
def written(world, monkeypatch):
    """A proposer that writes 1+2 twice, 3+4, nonsense and what is cut; and its updates."""
    proposer, seen = Proposer(world), []
    group = group_of(["1+2", "+-", "3+4", "1+2", "3-4-5"], [True, True, True, True, False])
    kept = {question.text for level in world.held_out for question in level}
    monkeypatch.setattr(world, "_kept", kept - {"1+2=", "3+4="})
    monkeypatch.setattr(type(proposer._practice), "sample", lambda *args: group)

    def step(state, batch, frozen):
        seen.append(batch)
        return state, {}

    proposer._step = step
    return proposer, seen


def test_the_solver_gets_what_was_proposed(written, world):
    proposer, seen = written
    batches = proposer.batches()
    asked = [decode(row) for row in next(batches).tokens.tolist()]
    # rows of no task have the tasks of the batch once more
    assert asked == ["1+2=", "1+2=", "3+4=", "1+2=", "3+4="]
    solution = solved([[1, 0], [1, 1], [1, 0], [1, 1], [0, 0]])
    assert proposer.learn(solution) is solution
    (batch,) = seen
    # what fills a row is not what was proposed there
    worth = np.array([0.5, -1.0, 1.0, 0.0, -1.0])
    own = (worth - worth.mean()) / worth.std()
    found = np.asarray(batch.advantage[0], np.float64)
    np.testing.assert_allclose(found / found[0], own / own[0], rtol=1e-4)
    assert found[0] > 0
    found = [x[0] for x in (proposer.valid, proposer.different, proposer.success)]
    assert found == pytest.approx([0.6, 1 / 3, 0.6])
    next(batches)
    assert len(proposer.asked) == 2


def test_nothing_that_is_a_task_leaves_the_lessons(written, world, monkeypatch):
    proposer, _ = written
    monkeypatch.setattr(world, "task", lambda text: None)
    next(proposer.batches())
    assert proposer.asked[0] == world.lessons[:5]


def test_controls_practise_as_many_sums_of_as_many_numbers(world, monkeypatch):
    asked = {}

    def reinforced(model, batches, practice, *, stage, choose, **rest):
        asked[stage] = []
        for _, batch in zip(range(practice.steps), batches, strict=False):
            asked[stage].append([decode(row) for row in batch.tokens.tolist()])
            choose(solved(np.tile([0.0, 1.0], (4, 1))))
        return model

    monkeypatch.setattr(arms, "reinforced", reinforced)
    models, proposer = trained(world, Progress())
    assert list(models) == [PROPOSED, ALIKE, RANDOM] == list(asked)
    size = lambda batches: [[len(solve(text).lines) for text in batch] for batch in batches]
    assert {len(batch) for batches in asked.values() for batch in batches} == {4}
    assert {len(batches) for batches in asked.values()} == {5}
    own = [[terms_of(question) for question in batch] for batch in proposer.asked[:5]]
    assert size(asked[ALIKE]) == own == size(asked[PROPOSED])
    assert asked[ALIKE] != asked[PROPOSED]
    assert {n for batch in size(asked[RANDOM]) for n in batch} == {2, 3}


def test_gains_are_paired_by_model():
    rng = np.random.default_rng(0)
    found = {"accuracy": rng.uniform(size=(3, 4, 2)), "level": rng.uniform(size=(3, 5, 2))}
    found |= {name: rng.uniform(size=(3, 5)) for name in ("valid", "different", "success")}
    summary = summarise(TINY, found)
    gap = found["accuracy"][:, 1] - found["accuracy"][:, 2]
    gain = summary["gain"][ALIKE]
    assert gain["3 terms"].estimate == pytest.approx(gap[:, 1].mean())
    assert gain["all levels"].estimate == pytest.approx(gap.mean())
    assert list(summary["p"]) == [ALIKE, RANDOM]
    first, last = summary["proposals"]["valid"]
    assert first.estimate == pytest.approx(found["valid"][:, 0].mean())
    assert last.estimate == pytest.approx(found["valid"][:, -1].mean())


@pytest.mark.slow
def test_the_whole_in_small(tmp_path, capsys):
    config = replace(TINY, batches=2, run_dir=tmp_path / "run")
    main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    assert list(summary["accuracy"]) == ["before", PROPOSED, ALIKE, RANDOM]
    for row in summary["accuracy"].values():
        assert all(0 <= low <= high for _, low, high in [row["all levels"]] if low == low)
    assert "Proposals" in (config.run_dir / "report.html").read_text()
    capsys.readouterr()
    main(config)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "seeds"),
        ({"terms": (3, 2)}, r"terms: expected rising numbers from 2, got \[3, 2\]"),
        ({"shown_batch": 40}, "shown_batch: 40 is more than all lessons, 32"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


def test_too_few_sums_are_refused():
    with pytest.raises(InputError, match="held_out: 2 terms make 200 different sums, fewer than"):
        World(replace(TINY, held_out=500), 0, Progress())
