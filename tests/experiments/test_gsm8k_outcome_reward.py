from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest

from experiments.gsm8k_outcome_reward.config import CONFIG
from experiments.gsm8k_outcome_reward.study import (
    BEST,
    VOTE,
    WRITERS,
    areas,
    fit_outcomes,
    fit_pairs,
    main,
    read,
    same_writers_auc,
    writer_accuracy,
)
from irl_jax.recipes.launch import splits
from irl_jax.recipes.tiny import PLEASANT, UNPLEASANT
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.types import InputError
from tests.experiments.conftest import write_jsonl

QUICK = EnsembleConfig(members=1, widths=(8,), steps=120, batch_size=64, lr=1e-2)
SKILL = (0.2, 0.4, 0.4, 0.6)
HEADS = ("right or wrong", "pairs of a question", "recognises the writer")


def rows(n: int) -> list[dict]:
    """Questions whose right solutions are pleasant, wrong ones unpleasant and of any answer."""
    rng = np.random.default_rng(0)
    out = []
    for i in range(n):
        row = {"question": f"Describe number {i}.", "ground_truth": f"so\nA: {i},000"}
        for writer, skill in zip(WRITERS, SKILL, strict=True):
            right = bool(rng.random() < skill)
            words = rng.choice((PLEASANT if right else UNPLEASANT).split(), 2, replace=False)
            answer = f"A: {1000 * i}.0" if right else rng.choice(["A: 7", "A: 9", "no answer"])
            solution = f"It is {words[0]} and {words[1]}.\n{answer}"
            row[writer] = {"solution": solution, "is_correct": right}
        out.append(row)
    return out


@pytest.fixture(scope="module")
def finished(encoder_dir, tiny_model_dir, tmp_path_factory):
    path = tmp_path_factory.mktemp("gsm8k")
    config = replace(
        CONFIG,
        data=write_jsonl(path / "solutions.jsonl", rows(60)),
        run_dir=path / "run",
        language_model=str(tiny_model_dir),
        sentence_encoder=encoder_dir,
        layers=1,
        max_prompt=32,
        max_completion=32,
        seeds=3,
        reward=QUICK,
    )
    main(config)
    return config


@pytest.fixture(scope="module")
def summary(finished):
    return json.loads((finished.run_dir / "summary.json").read_text())


@pytest.mark.slow
def test_heads_find_what_makes_solutions_right(summary):
    oracle = summary["accuracy"]["baseline / oracle"][0]
    for embedding in ("sentence encoder", "language model"):
        for head in HEADS[:2]:
            name = f"{embedding} / {head}"
            assert summary["accuracy"][name][0] > oracle - 0.1, name
            assert summary["auc"][name]["same question and two writers"][0] > 0.9, name
            assert summary["against_best_writer"][name][0] > 0.1, name
        votes = summary["accuracy"][f"{embedding} / right or wrong, as weights of votes"][0]
        assert votes > summary["accuracy"][VOTE][0]


@pytest.mark.slow
def test_baselines_are_those_of_the_data(finished, summary):
    solutions = read(finished.data)
    correct, answer = solutions.correct, solutions.answer
    held = ~splits(np.arange(60), finished.held_out, finished.seeds)
    counts = held.sum(0)
    over_splits = lambda value: np.mean([value[h].mean() for h in held])
    most = []
    for votes, right in zip(answer, correct, strict=True):
        tally = [(votes == a).sum() if a >= 0 else 0 for a in votes]
        best = [votes[i] for i in range(4) if tally[i] == max(tally)]
        kinds = sorted(set(best))
        most.append(np.mean([right[list(votes).index(k)] for k in kinds]))
    expected = {
        "baseline / random": correct.mean(1),
        "baseline / oracle": correct.any(1).astype(float),
        VOTE: np.array(most),
    }
    for name, value in expected.items():
        assert summary["over_splits"][name][0] == pytest.approx(over_splits(value)), name
        by_question = value[counts > 0].mean()
        assert summary["accuracy"][name][0] == pytest.approx(by_question), name
        assert summary["best_of_n"].get(name, [[by_question]])[-1][0] == pytest.approx(by_question)
    best = [correct[h, correct[~h].mean(0).argmax()].mean() for h in held]
    assert summary["over_splits"][BEST][0] == pytest.approx(np.mean(best))
    assert summary["label_agreement"] == 1.0
    assert summary["held_out_once"] == (counts > 0).sum()
    for name, curve in summary["best_of_n"].items():
        assert curve[0][0] == pytest.approx(summary["accuracy"]["baseline / random"][0]), name


@pytest.mark.slow
def test_the_report_shows_every_reward(finished, summary, capsys):
    html = (finished.run_dir / "report.html").read_text()
    assert all(name.split(" / ")[1] in html for name in (*summary["accuracy"], *summary["auc"]))
    main(finished)
    said = capsys.readouterr().out
    assert "this run is complete" in said and "language model / right or wrong" in said


def test_who_wrote_it_explains_no_comparison_of_the_same_two():
    """A reward that knows the writers alone is good over questions, and chance in between."""
    rng = np.random.default_rng(1)
    skill = np.array([0.2, 0.4, 0.6, 0.8])
    correct = rng.random((3000, 4)) < skill
    found = areas(np.broadcast_to(skill, correct.shape), correct)
    assert found["over all"] > 0.65 and found["same question"] > 0.65
    assert found["same writer"] == found["same question and two writers"] == 0.5
    hard = rng.standard_normal((3000, 1))
    knows = areas(10 * hard + correct, correct)
    assert knows["same question and two writers"] == 1.0 and knows["over all"] < 0.6


def test_comparisons_of_two_writers_are_counted():
    rng = np.random.default_rng(2)
    reward, correct = rng.standard_normal((12, 4)), rng.random((12, 4)) < 0.5
    won = pairs = 0
    for a, b in combinations(range(4), 2):
        ahead = reward[:, a] - reward[:, b]
        only_a, only_b = correct[:, a] & ~correct[:, b], correct[:, b] & ~correct[:, a]
        for i, j in product(np.flatnonzero(only_a), np.flatnonzero(only_b)):
            won, pairs = won + (ahead[i] > ahead[j]), pairs + 1
    assert same_writers_auc(reward, correct) == pytest.approx(won / pairs)


def test_held_out_questions_teach_nothing():
    """Labels that no feature tells are learned by heart, and at chance elsewhere."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((300, 4, 32)).astype(np.float32)
    correct = rng.random((300, 4)) < 0.5
    train = splits(np.arange(300), 0.5, 1)
    config = replace(QUICK, steps=400, widths=(64,), weight_decay=0.0)
    outcomes = fit_outcomes(x, correct[None].astype(float), train, config)[0]
    pairs = fit_pairs(x, correct, train, config)[0]
    for reward in (outcomes, pairs):
        inside, outside = (
            areas(reward[t], correct[t])["same question"] for t in (train[0], ~train[0])
        )
        assert inside > 0.9 and abs(outside - 0.5) < 0.1


def test_skill_of_writers_is_that_of_questions_trained_on():
    correct = np.array([[1, 0], [1, 1], [0, 1]], bool)
    train = np.array([[True, True, False], [False, True, True]])
    skill = writer_accuracy(correct, train)
    np.testing.assert_allclose(skill[:, 0], [[1.0, 0.5], [0.5, 1.0]])
    assert skill.shape == (2, 3, 2)


def test_no_data_too_little_and_another_file_are_named(tmp_path):
    with pytest.raises(InputError, match=r"^data: no file of solutions; get example_model_sol"):
        read(None)
    with pytest.raises(InputError, match="4 questions are too few to split; give 10 or more"):
        read(write_jsonl(tmp_path / "few.jsonl", rows(4)))
    other = write_jsonl(tmp_path / "other.jsonl", [{"question": "?", "answer": "#### 3"}])
    with pytest.raises(InputError, match=r"other.jsonl:1: expected question, ground_truth, and"):
        read(other)
