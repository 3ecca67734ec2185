from __future__ import annotations

import io
import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.fine_grained_feedback.config import CONFIG
from experiments.fine_grained_feedback.data import KINDS, PAIRS, cut, labels, read
from experiments.fine_grained_feedback.report import LISTED, LONGER, MARKED
from experiments.fine_grained_feedback.rewards import (
    BOTH,
    DENSE,
    FIXED,
    SEQUENCE,
    Pairs,
    Split,
    split_of,
)
from experiments.fine_grained_feedback.study import main
from irl_jax.data.chat import render_chat
from irl_jax.models.decoder import forward, logits
from irl_jax.models.logprob import completion_hidden
from irl_jax.recipes.embeddings import embed_segments
from irl_jax.recipes.judging import ask
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.tiny import PLAIN, PLEASANT, UNPLEASANT, prompt_of, topics
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.rewards.judge import comparison
from irl_jax.train.progress import Progress
from irl_jax.types import InputError, Prompt

QUICK = EnsembleConfig(members=2, widths=(8,), steps=150, batch_size=64, lr=1e-2, weight_decay=0.0)
WORDS = {"good": PLEASANT, "bad": UNPLEASANT, "plain": PLAIN}
COST = {"good": 0, "bad": 2, "plain": 1}
ERRORS = {"bad": "Irrelevant", "plain": "Unverifiable"}


def question(topic: str, rng: np.random.Generator) -> dict:
    """Answers of two to three sentences; bad ones are irrelevant, plain ones false."""
    kinds = [rng.choice(list(WORDS), rng.integers(2, 4)).tolist() for _ in range(4)]
    texts = [
        ["It is {} and {}.".format(*rng.choice(WORDS[k].split(), 2, replace=False)) for k in each]
        for each in kinds
    ]
    quality = [-sum(COST[k] for k in each) for each in kinds]
    errors, start = [], 0
    for kind, sentence in zip(kinds[0], texts[0], strict=True):
        if kind in ERRORS:
            end = start + len(sentence)
            errors.append({"error type": ERRORS[kind], "start": start, "end": end})
        start += len(sentence) + 1
    return {
        "question": prompt_of(topic),
        "passages": [["Title", "It is long."]],
        **{f"prediction {i}": " ".join(text) for i, text in enumerate(texts, start=1)},
        "feedback": {"errors": errors, "missing-info": [{}] if len(kinds[0]) < 3 else []},
        "preference": [
            0 if quality[i] == quality[j] else 1 if quality[i] > quality[j] else 2 for i, j in PAIRS
        ],
    }


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return [question(topic, rng) for topic in topics(60, 0)]


@pytest.fixture(scope="module")
def finished(rows, tiny_model_dir, tmp_path_factory):
    path = tmp_path_factory.mktemp("fine")
    (path / "feedback.json").write_text(json.dumps(rows))
    config = replace(
        CONFIG,
        data=path / "feedback.json",
        run_dir=path / "run",
        language_model=str(tiny_model_dir),
        dtype="float32",
        layers=1,
        max_prompt=40,
        max_completion=60,
        judged=6,
        held_out=0.25,
        questions=(10, 45),
        seeds=3,
        reward=QUICK,
    )
    main(config)
    return config, json.loads((config.run_dir / "summary.json").read_text())


def test_both_kinds_of_feedback_teach_what_was_planted(finished, rows):
    _, summary = finished
    decided = [p for row in rows for p in row["preference"] if p]
    assert summary["pairs"] == len(decided)
    assert summary["without_preference"] == pytest.approx(1 - len(decided) / (6 * len(rows)))
    assert set(summary["accuracy"]) == {
        LISTED, LONGER, FIXED, DENSE, SEQUENCE, BOTH, *(f"dense, {kind} alone" for kind in KINDS)
    }  # fmt: skip
    for name in (DENSE, SEQUENCE, BOTH):
        assert summary["accuracy"][name][0] > 0.8, name
        assert summary["first_answer_auc"][name][0] > 0.85, name
    assert summary["detection_auc"]["relevance"][0] > 0.9
    assert summary["detection_auc"]["facts"][0] > 0.9
    assert summary["first_answer_auc"][MARKED][0] > 0.65
    assert abs(summary["accuracy"][LISTED][0] - 0.5) < 0.2


def test_figures_are_means_over_splits_and_agree(finished):
    config, summary = finished
    for name, values in summary["by_split"].items():
        assert len(values) == config.seeds
        assert summary["accuracy"][name][0] == pytest.approx(np.mean(values))
    dense, whole = (np.mean(summary["by_split"][name]) for name in (DENSE, SEQUENCE))
    assert summary["against_whole"][DENSE][0] == pytest.approx(dense - whole)
    assert summary["dense_against_whole"][-1][0] == pytest.approx(dense - whole)
    assert summary["curve"][DENSE][-1] == pytest.approx(summary["accuracy"][DENSE])
    html = (config.run_dir / "report.html").read_text()
    assert all(name in html for name in (DENSE, SEQUENCE, MARKED, "Judge"))
    said = np.load(config.run_dir / "judge.npz")
    right = (np.sign(said["preference"]) + 1) / 2
    assert summary["judge"]["accuracy"][0] == pytest.approx(right.mean())
    assert summary["judge"]["pairs"] == 6


def test_again_it_reports_what_is_there(finished, capsys):
    main(finished[0])
    said = capsys.readouterr().out
    assert "this run is complete" in said
    assert DENSE in said


def test_features_of_a_segment_are_the_mean_over_its_tokens(tiny_model_dir, tmp_path, rows):
    with Progress(io.StringIO()) as progress:
        model = load_language_model(
            str(tiny_model_dir), tmp_path, seed=0, dtype="float32", progress=progress
        )
    path = tmp_path / "feedback.json"
    path.write_text(json.dumps(rows[:10]))
    groups = model.encoder(max_prompt=40, max_completion=60, overlong="truncate").groups(
        example.group() for example in read(path)
    )
    rng = np.random.default_rng(0)
    segments = [[np.sort(rng.integers(1, 4, len(ids))) for ids in g.completions] for g in groups]
    features, count = embed_segments(
        model, groups, segments, layers=1, batch_size=4, advance=lambda done, _: None
    )
    assert features.dtype == np.float16
    one = replace(model.config, n_layers=1)
    params = {**model.params, "layers": jax.tree.map(lambda x: x[:1], model.params["layers"])}
    for i, k in ((0, 0), (9, 3)):
        prompt = np.array([groups[i].prompt])
        context = Prompt(prompt, np.ones_like(prompt, bool))
        action = np.array([[groups[i].completions[k]]])
        hidden = np.asarray(completion_hidden(one, params, context, action))[0, 0]
        for g in range(3):
            inside = segments[i][k] == g + 1
            assert count[i, k, g] == inside.sum()
            if inside.any():
                np.testing.assert_allclose(
                    features[i, k, g], hidden[inside].mean(0), rtol=2e-3, atol=2e-3
                )


def test_labels_follow_the_spans(tmp_path, rows):
    answer = "It is good, so very good, and it is very old. It is bad. It is made of cheese."
    bad, cheese = answer.index("It is bad"), answer.index("It is made")
    row = rows[0] | {
        "prediction 1": answer,
        "feedback": {
            "errors": [
                {"error type": "Redundant", "start": 12, "end": 45},
                {"error type": "Incoherent", "start": bad, "end": bad + 10},  # too short to count
                {"error type": "Wrong-Grounding", "start": cheese, "end": len(answer)},
            ],
            "missing-info": [],
        },
    }
    path = tmp_path / "feedback.json"
    path.write_text(json.dumps([row] * 10))
    example = read(path)[0]
    parts = cut(answer)
    assert [answer[s:e] for s, e in zip([0, *parts.ends], parts.ends, strict=False)] == [
        "It is good, so very good,", " and it is very old.", " It is bad.", " It is made of cheese."
    ]  # fmt: skip
    assert parts.sentence.tolist() == [1, 1, 2, 3]
    relevance, facts, missing = labels(example)
    assert relevance.tolist() == [1, 1, 0, 0]
    np.testing.assert_array_equal(facts, [np.nan, np.nan, 1])
    assert missing.tolist() == [0]


def test_pairs_keep_the_preferred_side_first(tmp_path, rows):
    path = tmp_path / "feedback.json"
    changed = [row | {"preference": [1, 2, 0, 0, 0, 2]} for row in rows[:10]]
    path.write_text(json.dumps(changed))
    pairs = Pairs.of(read(path))
    assert pairs.sides[:3].tolist() == [[0, 1], [2, 0], [3, 2]]
    assert pairs.question.tolist() == np.repeat(np.arange(10), 3).tolist()
    values = np.arange(40.0).reshape(10, 4)
    assert pairs.take(values)[4].tolist() == [6.0, 4.0]


def test_rows_of_a_split_count_once_and_smaller_sets_are_nested():
    rng = np.random.default_rng(0)
    train = np.array([order < 15 for order in (rng.permutation(20) for _ in range(3))])
    large, small = split_of(train, 12), split_of(train, 5)
    assert (large.chosen.sum(1) == 12).all()
    assert (small.chosen <= large.chosen).all()
    assert (large.chosen <= train).all()
    question = rng.integers(0, 20, 70)
    rows, weight = small.rows(question)
    assert rows.shape == (3, max(t[question].sum() for t in train))
    for each, w, chosen in zip(rows, weight, small.chosen, strict=True):
        total = np.bincount(each, w, 70)
        np.testing.assert_allclose(total, chosen[question], atol=1e-6)
    assert Split(train, train).rows(question)[0].shape == rows.shape


def test_a_judge_is_asked_in_both_orders(tiny_model_dir, tmp_path):
    with Progress(io.StringIO()) as progress:
        model = load_language_model(
            str(tiny_model_dir), tmp_path, seed=0, dtype="float32", progress=progress
        )
    model = replace(model, config=replace(model.config, max_positions=1024))
    pairs = [("Why?", "So.", "So."), ("Why?", "It is sad.", "It is great.")]
    said = ask(model, pairs, max_prompt=512, batch_size=3, advance=lambda done, _: None)
    np.testing.assert_allclose(said.preference[0], 0.0, atol=1e-6)

    def alone(first: str, second: str) -> float:
        text = comparison("Why?", first, second)
        prompt = render_chat(
            model.tokenizer.chat_template,
            text,
            add_generation_prompt=True,
            tokens=model.tokenizer.template_tokens,
        )
        hidden, _ = forward(model.config, model.params, np.array([model.tokenizer.encode(prompt)]))
        a, b = (model.tokenizer.encode(name)[0] for name in "AB")
        z = logits(model.config, model.params, hidden[0, -1])
        return float(z[a] - z[b])

    given, swapped = alone(*pairs[1][1:]), alone(*pairs[1][:0:-1])
    np.testing.assert_allclose(said.preference[1], (given - swapped) / 2, atol=1e-5)
    np.testing.assert_allclose(said.bias[1], (given + swapped) / 2, rtol=1e-4)


def test_what_is_wrong_with_the_file_is_named(tmp_path, rows):
    with pytest.raises(InputError, match=r"^data: no file of feedback; give one, --data"):
        read(None)
    path = tmp_path / "feedback.json"
    with pytest.raises(InputError, match="no such file"):
        read(path)

    def bad(change: dict) -> str:
        path.write_text(json.dumps([*rows[:9], rows[9] | change]))
        with pytest.raises(InputError) as error:
            read(path)
        return str(error.value)

    assert "question 10: `preference` is [3]; expected six of 0, 1, 2" in bad({"preference": [3]})
    spans = {"errors": [{"error type": "Irrelevant", "start": 5, "end": 900}], "missing-info": []}
    assert "question 10: span 5..900 (relevance): not within" in bad({"feedback": spans})
    kind = {"errors": [{"error type": "Rude", "start": 0, "end": 9}], "missing-info": []}
    assert "question 10: KeyError 'Rude'" in bad({"feedback": kind})
    path.write_text("[]")
    with pytest.raises(InputError, match="JSON array of 10 questions or more"):
        read(path)
    path.write_text("{")
    with pytest.raises(InputError, match="broken JSON"):
        read(path)
    path.write_text(json.dumps(rows[:12]))
    with pytest.raises(InputError, match="leaves 9; give 1 to 9"):
        main(replace(CONFIG, data=path, run_dir=tmp_path / "run"))
