from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.prompt_oirl_gsm8k import study as prompt_oirl_gsm8k
from experiments.prompt_oirl_gsm8k.config import CONFIG
from experiments.prompt_oirl_gsm8k.rewards import PROMPTS, kinds, read
from experiments.prompt_oirl_gsm8k.study import main, preference_auc
from irl_jax.eval.ranking import auc
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.types import InputError
from tests.experiments.conftest import write_jsonl

TRAIN, TEST = 300, 120
FRUIT = np.array([0.8, 0.2, 0.5, 0.1, 0.1, 0.2])  # P(right) of each prompt, by kind of question
TRAINS = np.array([0.2, 0.8, 0.5, 0.1, 0.2, 0.1])


def write_log(path, seed=0):
    """Questions about fruit, which suit the first prompt, and trains, which suit the second."""
    rng = np.random.default_rng(seed)
    log = {}
    for part, n in (("train", TRAIN), ("test", TEST)):
        fruit = rng.random(n) < 0.5
        rows = [{"question": f"{'fruit' if f else 'trains'} {i}"} for i, f in enumerate(fruit)]
        write_jsonl(path / f"{part}.jsonl", [*rows, {"question": "not in the log"}])
        log[f"{part}_correct"] = (rng.random((n, 6)) < np.where(fruit[:, None], FRUIT, TRAINS)).T
    np.savez(path / "log.npz", **log)
    return log


def embed(directory, texts, *, max_tokens, batch_size, advance):
    """Two directions for the two kinds of question, one a prompt, and noise."""
    rng = np.random.default_rng(len(texts))
    out = 0.3 * rng.normal(size=(len(texts), 10)).astype(np.float32)
    for i, text in enumerate(texts):
        if text in PROMPTS.values():
            out[i, 2 + list(PROMPTS.values()).index(text)] += 3.0
        else:
            out[i, 0] += 1.0 if text.startswith("fruit") else -1.0
    return out


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts")
    log = write_log(path)
    config = replace(
        CONFIG,
        data=path / "log.npz",
        gsm8k=path,
        run_dir=path / "run",
        sentence_encoder=path,  # not read: `embed` stands in for it
        folds=2,
        seeds=2,
        reward=EnsembleConfig(members=2, widths=(16,), steps=150, batch_size=64, lr=1e-2),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompt_oirl_gsm8k, "embed_texts", embed)
        main(config)
    return config, log, json.loads((config.run_dir / "summary.json").read_text())


@pytest.mark.slow
def test_the_planted_choice_is_found_and_its_gain_is_over_the_best_single_prompt(finished):
    _, log, summary = finished
    train, test = log["train_correct"].T, log["test_correct"].T
    best = train.mean(0).argmax()
    assert summary["best_prompt"] == list(PROMPTS)[best]
    assert summary["best"][0] == pytest.approx(test[:, best].mean())
    assert summary["hindsight"][0] == pytest.approx(test.mean(0).max())
    assert summary["oracle"][0] == pytest.approx(test.any(1).mean())
    assert summary["random"][0] == pytest.approx(test.mean())
    chosen = summary["kinds"][summary["selected"]]
    assert chosen["test"][0] > 0.7
    assert chosen["gain"][0] == pytest.approx(chosen["test"][0] - summary["best"][0])
    assert chosen["gain"][1] > 0
    assert chosen["test"][0] == pytest.approx(np.mean(chosen["by_seed"]))
    assert chosen["preference_auc"][0] > 0.6
    assert max(row["folds"][0] for row in summary["kinds"].values()) == chosen["folds"][0]


@pytest.mark.slow
def test_a_linear_model_without_products_takes_one_prompt(finished):
    _, log, summary = finished
    row = summary["kinds"]["question and prompt, linear"]
    assert set(summary["kinds"]) == set(kinds(CONFIG.reward))
    shares = log["test_correct"].mean(1)
    assert all(any(a == pytest.approx(s) for s in shares) for a in row["by_seed"])
    assert row["preference_auc"][0] == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
def test_sets_of_prompts_by_hand(finished):
    config, log, summary = finished
    test, train = log["test_correct"].T, log["train_correct"].T
    with np.load(config.run_dir / "subsets.npz") as arrays:
        seen, probability = arrays["seen"], arrays["probability"]
    assert len(seen) == 63
    for row in summary["subsets"]:
        want = {name: [] for name in ("seen", "seen_best", "seen_random", "seen_oracle", "unseen")}
        for some, p in zip(seen, probability, strict=True):
            if some.sum() != row["prompts"]:
                continue
            inside, outside = np.flatnonzero(some), np.flatnonzero(~some)
            choice = [max(inside, key=lambda k: p[n, k]) for n in range(TEST)]
            want["seen"].append(np.mean([test[n, c] for n, c in enumerate(choice)]))
            want["seen_best"].append(test[:, max(inside, key=lambda k: train[:, k].mean())].mean())
            want["seen_random"].append(test[:, inside].mean())
            want["seen_oracle"].append(test[:, inside].any(1).mean())
            if len(outside) > 1:
                choice = [max(outside, key=lambda k: p[n, k]) for n in range(TEST)]
                want["unseen"].append(np.mean([test[n, c] for n, c in enumerate(choice)]))
        for name, values in want.items():
            if values:
                assert row[name][0] == pytest.approx(np.mean(values)), (row["prompts"], name)
    assert summary["subsets"][0]["seen_gain"] == [0.0, 0.0, 0.0]
    assert "unseen" not in summary["subsets"][-1]


@pytest.mark.slow
def test_the_report_names_what_was_compared(finished, capsys):
    config, *_ = finished
    html = (config.run_dir / "report.html").read_text()
    assert all(name in html for name in [*kinds(CONFIG.reward), *PROMPTS])
    main(config)
    said = capsys.readouterr().out
    assert "this run is complete" in said
    assert "against best in hindsight" in said


def test_a_preference_auc_sees_no_difficulty_and_no_quality_of_a_prompt():
    rng = np.random.default_rng(0)
    difficulty, quality = rng.normal(size=(4000, 1)), np.array([1.0, 0.0, -1.0])
    suits = 2 * rng.normal(size=(4000, 3))
    chance = 1 / (1 + np.exp(-(difficulty + quality + suits)))
    right = rng.random(chance.shape) < chance
    plain = 1 / (1 + np.exp(-(difficulty + quality)))
    assert preference_auc(np.stack([plain, right], axis=1)) == pytest.approx(0.5, abs=0.02)
    assert preference_auc(np.stack([chance, right], axis=1)) > 0.8
    assert auc(difficulty[:, 0], right[:, 0]) > 0.6


def test_bad_input_is_named(tmp_path):
    with pytest.raises(InputError, match=r"^data: no log of prompts; give --data LOG.npz --gsm8k"):
        read(None, tmp_path)
    with pytest.raises(InputError, match=r"^gsm8k: no directory of questions; give --data"):
        read(tmp_path / "log.npz", None)
    log = write_log(tmp_path)
    with pytest.raises(InputError, match=r"none.npz: no npz with train_correct and test_correct"):
        read(tmp_path / "none.npz", tmp_path)
    np.savez(tmp_path / "short.npz", train_correct=log["train_correct"][:5], test_correct=[[1]])
    with pytest.raises(InputError, match=r"train_correct is \[5, 300\], expected \[6, 10 to 301\]"):
        read(tmp_path / "short.npz", tmp_path)
    (tmp_path / "test.jsonl").unlink()
    with pytest.raises(InputError, match=r"test.jsonl"):
        read(tmp_path / "log.npz", tmp_path)
