"""Rewards of judges in `irl-jax score`: planted critiques, verdict tokens, rubrics, mistakes."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irl_jax.data.chat import render_chat
from irl_jax.models.decoder import forward, logits
from irl_jax.recipes import judge_scorers
from irl_jax.recipes.cli import run as run_cli
from irl_jax.recipes.judge_config import JudgeConfig
from irl_jax.recipes.judging import ask
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.read_config import ReadConfig
from irl_jax.recipes.score import main, read
from irl_jax.recipes.score_config import CONFIG, ScoreConfig
from irl_jax.recipes.score_judge import places
from irl_jax.recipes.scorers import in_log_odds
from irl_jax.recipes.tiny import PLEASANT
from irl_jax.rewards.rubrics import QUESTION
from irl_jax.train.progress import Progress
from irl_jax.train.run import read_rows
from irl_jax.types import InputError
from tests.experiments.conftest import ROWS, as_messages, complaint, write_jsonl
from tests.experiments.test_score import summary_of

RUBRIC = [
    {"text": "It is cheerful.", "weight": 2, "name": "cheer"},
    {"text": "It is long.", "weight": -0.5},
    {"text": "It is about the topic."},
]
# "R" stands for the request, "1" and "2" for the answers as shown
PAIRS = "R {request}\n1 {first}\n2 {second}"
ONE = "R {request}@1 {response}@{lowest} to {highest}"
PLACED = "a city at night"


@pytest.fixture(scope="module")
def judge_dir(tiny_model_dir, tmp_path_factory) -> Path:
    """The tiny model with room for a question; what it writes is no verdict."""
    path = shutil.copytree(tiny_model_dir, tmp_path_factory.mktemp("judge") / "model")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 768}))
    return path


@pytest.fixture
def settings(judge_dir, tmp_path) -> ScoreConfig:
    rows = [as_messages(row) if i % 2 else row for i, row in enumerate(ROWS[:12:2])]
    data = write_jsonl(tmp_path / "prefs.jsonl", rows)
    return replace(
        CONFIG, data=data, model=str(judge_dir), run_dir=tmp_path / "run", edits=0, reward="judge",
        judge=JudgeConfig(samples=2, max_new_tokens=6),
    )  # fmt: skip


def asking(config: ScoreConfig, asks: str, template: str = "") -> ScoreConfig:
    own = {"asks": asks}
    if template:
        (config.run_dir.parent / "template.txt").write_text(template)
        own["template"] = config.run_dir.parent / "template.txt"
    return replace(config, judge=replace(config.judge, **own))


def writes(monkeypatch, say) -> list[str]:
    """Has a judge write say(question, number of the sample); returns what it is asked."""
    asked = []

    def sample(command, model, prompts, progress):
        asked.extend(item.record.prompt for item in prompts)
        return [
            [say(item.record.prompt, n) for n in range(command.completions)] for item in prompts
        ]

    monkeypatch.setattr(judge_scorers, "sample", sample)
    return asked


def rewards_of(config: ScoreConfig) -> np.ndarray:
    return np.array([row["rewards"] for row in read_rows(config.run_dir / "scores.jsonl")])


def test_a_sampled_critique_without_a_verdict_is_a_tie_and_is_counted(settings):
    config = asking(settings, "pair", PAIRS)
    main(config)
    found = summary_of(config)
    rows = read_rows(config.run_dir / "judgements.jsonl")
    assert [(row["record"], row["shown"]) for row in rows[:4]] == [
        (0, [0, 1]), (0, [1, 0]), (1, [0, 1]), (1, [1, 0])
    ]  # fmt: skip
    assert all(len(row["texts"]) == 2 and row["said"] == [None, None] for row in rows)
    assert len({text for row in rows for text in row["texts"]}) > 1  # they are draws
    assert found["judge"]["unread"] == found["judge"]["critiques"] == 6 * 2 * 2
    assert found["judge"]["unread_share"] == [1, 1, 1] and found["judge"]["questions"] == 12
    assert found["judge"]["changed"] == found["judge"]["first"] == [0, 0, 0]
    assert found["accuracy"] == [0.5, 0.5, 0.5] and not rewards_of(config).any()
    page = (config.run_dir / "report.html").read_text()
    assert "The judge" in page and "24 critiques 24 had no verdict" in page


def test_a_planted_judge_of_pairs(settings, monkeypatch, capsys):
    """It likes the pleasant side, always; but of one request the place shown second."""

    def say(question: str, n: int) -> str:
        request, first, second = question.split("\n")
        if PLACED in request:
            return "[[A]] or [[B]]? I cannot say."
        pleasant = [any(word in side for word in PLEASANT.split()) for side in (first, second)]
        assert sum(pleasant) == 1
        if n == 0 and pleasant[0]:
            return "No idea."  # in one order alone
        return f"Hm. [[C]]?\nVerdict: {'A' if pleasant[0] else 'B'}"

    asked = writes(monkeypatch, say)
    config = asking(settings, "pair", PAIRS)
    config = replace(config, judge=replace(config.judge, samples=2))
    main(config)
    records, rows = read(config), ROWS[:12:2]
    for number, (record, row) in enumerate(zip(records, rows, strict=True)):
        sides = (row["chosen"], row["rejected"])
        assert asked[2 * number] == f"R {row['prompt']}\n1 {sides[0]}\n2 {sides[1]}"
        assert asked[2 * number + 1] == f"R {row['prompt']}\n1 {sides[1]}\n2 {sides[0]}"
        assert len(record.responses) == 2
    # of four readings one is a tie and three are wins: 3.5 of 4, with half a win for each side
    d = math.log(4 / 1)
    placed = np.array([PLACED in row["prompt"] for row in rows])
    expected = np.where(placed, 0.0, d)
    found = rewards_of(config)
    np.testing.assert_allclose(found[:, 0] - found[:, 1], expected, atol=1e-12)
    summary = summary_of(config)
    share = placed.mean()
    assert share == 1 / 6
    assert summary["accuracy"][0] == pytest.approx(1 - share / 2)
    assert summary["judge"]["changed"][0] == summary["judge"]["second"][0] == pytest.approx(share)
    assert summary["judge"]["first"] == [0, 0, 0]
    assert summary["judge"]["unread"] == (~placed).sum()
    assert sum(summary["calibration"]["bins"]["count"]) == 6
    assert "the place shown second wins in both orders" in capsys.readouterr().out


def test_a_circle_of_three_is_a_tie_of_three(settings, monkeypatch):
    """Stone, paper, scissors: each wins against one, so that no response is better."""
    beats = {("stone", "scissors"), ("scissors", "paper"), ("paper", "stone")}

    def say(question: str, n: int) -> str:
        _, *sides = question.split("\n")
        return "[[A]]" if tuple(side[2:] for side in sides) in beats else "[[B]]"

    writes(monkeypatch, say)
    rows = [
        {"prompt": f"Question {i}?", "chosen": "stone", "rejected": ["paper", "scissors"]}
        for i in range(2)
    ]
    config = replace(asking(settings, "pair", PAIRS),
                     data=write_jsonl(settings.run_dir.parent / "three.jsonl", rows))  # fmt: skip
    main(config)
    np.testing.assert_allclose(rewards_of(config), 0.0, atol=1e-12)
    assert len(read_rows(config.run_dir / "judgements.jsonl")) == 2 * 3 * 2


def test_ratings_are_means_with_the_middle_for_what_is_not_one(settings, monkeypatch):
    def say(question: str, n: int) -> str:
        _, response, scale = question.split("@")
        assert scale == "0 to 5"
        return f"Rating: {len(response) / 20}" if n else "Rating: 99"

    writes(monkeypatch, say)
    config = asking(settings, "rating", ONE)
    config = replace(config, edits=2, judge=replace(config.judge, samples=3, lowest=0, highest=5))
    main(config)
    sizes = np.array([[len(f"1 {row[s]}") for s in ("chosen", "rejected")] for row in ROWS[:12:2]])
    np.testing.assert_allclose(rewards_of(config), (2.5 + 2 * sizes / 20) / 3, rtol=1e-12)
    found = summary_of(config)
    assert found["judge"]["unread_share"] == pytest.approx([1 / 3] * 3)
    assert set(found["judge"]) == {"questions", "critiques", "unread", "unread_share"}
    assert found["edits"]["trailing break"]["changed"] == 4
    assert found["calibration"] is None and not in_log_odds(config)


def test_a_letter_is_the_log_odds_of_its_token_in_both_orders(settings, judge_dir, tmp_path):
    config = asking(settings, "letter")
    main(config)
    quiet = Progress(io.StringIO())
    model = load_language_model(str(judge_dir), tmp_path, seed=0, dtype="float32", progress=quiet)
    shown = [(row["prompt"], row["chosen"], row["rejected"]) for row in ROWS[:12:2]]
    said = ask(model, shown, max_prompt=512, batch_size=4, advance=lambda done, _: None)
    found = rewards_of(config)
    np.testing.assert_allclose(found[:, 0] - found[:, 1], said.preference, rtol=1e-4, atol=1e-5)
    judge = summary_of(config)["judge"]
    assert judge["changed"][0] == pytest.approx(1 - np.mean(np.asarray(said.consistent)))
    assert set(judge) == {"questions", "changed", "first", "second"}
    assert summary_of(config)["calibration"] and in_log_odds(config)


def test_a_rubric_is_the_weighted_mean_of_what_the_judge_says(settings, judge_dir, tmp_path):
    (tmp_path / "rubric.json").write_text(json.dumps(RUBRIC))
    config = replace(settings, reward="rubric", rubric=tmp_path / "rubric.json", edits=1)
    config = replace(config, judge=JudgeConfig())
    main(config)
    quiet = Progress(io.StringIO())
    model = load_language_model(str(judge_dir), tmp_path, seed=0, dtype="float32", progress=quiet)
    tokenizer = model.tokenizer

    def yes(row: dict, side: str, criterion: str) -> float:
        text = QUESTION.format(request=row["prompt"], response=row[side], criterion=criterion)
        prompt = render_chat(tokenizer.chat_template, text, add_generation_prompt=True,
                             tokens=tokenizer.template_tokens)  # fmt: skip
        hidden, _ = forward(model.config, model.params, np.array([tokenizer.encode(prompt)]))
        z = np.asarray(logits(model.config, model.params, hidden[0, -1]), np.float64)
        p = [np.exp(z[tokenizer.encode(word)[0]]) for word in ("Yes", "No")]
        return float(p[0] / sum(p))

    row = ROWS[2]
    expected = [
        sum(c.get("weight", 1) * yes(row, side, c["text"]) for c in RUBRIC) / 3
        for side in ("chosen", "rejected")
    ]
    np.testing.assert_allclose(rewards_of(config)[1], expected, rtol=1e-4)
    found = summary_of(config)["judge"]["criteria"]
    assert {name: row["weight"] for name, row in found.items()} == {
        "cheer": 2, "criterion 2": -0.5, "criterion 3": 1
    }  # fmt: skip
    rows = read_rows(config.run_dir / "judgements.jsonl")
    own = np.array([row["criteria"] for row in rows if row["shown"][0] < 2]).reshape(6, 2, 3)
    assert found["cheer"]["mean"] == pytest.approx(own[:, :, 0].mean())
    assert found["criterion 2"]["accuracy"][0] == np.mean(own[:, 0, 1] < own[:, 1, 1])
    assert "Criteria" in (config.run_dir / "report.html").read_text()
    config.rubric.write_text(json.dumps(RUBRIC[:1]))
    with pytest.raises(InputError, match=r"^rubric: \S+ is another one than the run"):
        main(config)


def test_places_are_counted_by_hand():
    ahead = np.array([[1, -1], [1, 1], [-1, -1], [0, 0], [0, 1], [0, -1], [-1, 1.0]])
    found = places(ahead, np.arange(7))
    assert {name: value.estimate for name, value in found.items()} == pytest.approx(
        {"changed": 4 / 7, "first": 1 / 7, "second": 1 / 7}
    )


# --- mistakes ---------------------------------------------------------------------------

MISTAKES = {
    "no_model": (["--model", "None"], "model: --reward judge needs one; give smollm2, a GGUF"),
    "edits": (["--judge.asks", "pair", "--edits", "4"], "edits: a judge of pairs compares the"),
    "rubric": (["--rubric", "r.json"], "rubric: --reward is judge; leave it away"),
    "no_rubric": (["--reward", "rubric"], "rubric: --reward is rubric; give a file of criteria"),
    "no_judge": (["--reward", "length"], "judge: a length reward asks no judge; leave it away"),
    "completion": (["--read.max-completion", "9"], r"read\.max_completion: a judge reads a resp"),
    "label": (["--read.label", "x"], r"read\.label: a judge reads a response in its question"),
    "samples": (["--judge.temperature", "0"], r"judge\.samples: at temperature 0 all are one"),
    "scale": (["--judge.lowest", "10"], r"judge\.lowest: expected a number below highest, got 10"),
    "cold": (["--judge.temperature", "-1"], r"judge\.temperature: must be 0 or from"),
    "none": (["--judge.samples", "0"], r"judge\.samples: expected a number in \[1, inf\], got 0"),
    "template": (["--judge.template", "DIR/prefs.jsonl"], r"judge\.template: \S+: .*field"),
    "gone": (["--judge.template", "DIR/no.txt"], r"judge\.template: \S+no\.txt: no such file"),
    "held_out": (["--held-out"], "held_out: a judge reward has no run that held prompts out"),
}


@pytest.mark.parametrize(("args", "says"), MISTAKES.values(), ids=list(MISTAKES))
def test_mistakes_are_one_line(args, says, settings, tmp_path, capsys):
    args = [arg.replace("DIR", str(tmp_path)) for arg in args]
    with pytest.raises(SystemExit) as stop:
        run_cli(main, settings, args=args)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.match(says, complaint(captured.err)), captured.err
    assert not settings.run_dir.exists()


def test_a_question_that_does_not_fit_is_named(settings, tmp_path, capsys):
    for change, says in {
        "max_prompt": r"read\.max_prompt: 765 tokens of a question and 6 of an answer exceed the",
        "overlong": r"\S+prefs\.jsonl:1: the prompt has \d+ tokens, over max_prompt 9; raise",
    }.items():
        limit = 765 if change == "max_prompt" else 9
        with pytest.raises(SystemExit):
            run_cli(main, replace(settings, read=ReadConfig(max_prompt=limit)), args=[])
        assert re.match(says, complaint(capsys.readouterr().err))
