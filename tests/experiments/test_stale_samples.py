"""What is learned from samples of an earlier policy."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.stale_samples import study
from experiments.stale_samples.arms import (
    CLIPPED,
    FILTERED,
    FRESH,
    MASKED,
    MASKED_WHOLE,
    PLAIN,
    TRUNCATED,
    WHOLE,
    World,
    losses,
)
from experiments.stale_samples.config import CONFIG
from irl_jax.train.progress import Progress
from irl_jax.types import Group, InputError

TINY = replace(
    CONFIG, seeds=2, lags=(2,), lessons=8, practised=8, width=8, layers=1, shown=10, prompts=4,
    completions=2, batches=4, attempts=2,
)  # fmt: skip
RNG = np.random.default_rng(0)
B, K, T = 3, 4, 4
MASK = np.arange(T) < RNG.integers(1, T + 1, (B, K, 1))
LOGP = -RNG.exponential(size=(B, K, T)).astype(np.float32)
STALE = (LOGP + RNG.normal(0, 1.0, (B, K, T))).astype(np.float32)
ADVANTAGE = RNG.normal(size=(B, K)).astype(np.float32)


def gradient(name, behaviour):
    zero = np.zeros((B, K), np.float32)
    batch = Group(None, np.zeros((B, K, T), np.int32), MASK, behaviour, zero, zero > 0)
    loss = losses(TINY)[name]
    return jax.jit(jax.grad(lambda logp: loss(logp, batch, advantage=ADVANTAGE).mean))(LOGP)


@pytest.mark.parametrize("name", losses(TINY))
def test_from_fresh_samples_all_learn_the_same(name):
    by_hand = -np.where(MASK, ADVANTAGE[..., None] / MASK.sum(-1, keepdims=True), 0.0) / (B * K)
    np.testing.assert_allclose(gradient(name, LOGP), by_hand, rtol=1e-5, atol=1e-8)


def test_a_stale_sample_weighs_what_its_loss_says():
    ratio = np.exp(np.where(MASK, LOGP - STALE, 0.0).astype(np.float64))
    whole = np.broadcast_to(ratio.prod(-1, keepdims=True), ratio.shape)
    positive = ADVANTAGE[..., None] > 0
    clipped = ratio * np.where(positive, ratio < 1.2, ratio > 0.8)
    stale = np.log(1 / ratio).sum(-1, keepdims=True) / MASK.sum(-1, keepdims=True) > TINY.limit
    wanted = {
        PLAIN: np.ones_like(ratio),
        CLIPPED: clipped,
        FILTERED: clipped * (positive | ~stale),
        TRUNCATED: np.minimum(ratio, 2.0),
        WHOLE: np.minimum(whole, 2.0),
        MASKED: ratio * ((ratio >= 0.5) & (ratio <= 2.0)),
        MASKED_WHOLE: whole * (whole <= 2.0),
    }
    fresh = gradient(PLAIN, LOGP)
    assert set(wanted) == set(losses(TINY))
    for name, weight in wanted.items():
        np.testing.assert_allclose(
            gradient(name, STALE), fresh * weight, rtol=1e-4, atol=1e-7, err_msg=name
        )
    assert (stale & ~positive).any() and (ratio > 2).any() and (ratio < 0.5).any()


@pytest.mark.slow
def test_the_whole_in_small(tmp_path, capsys):
    config = replace(TINY, run_dir=tmp_path / "run")
    study.main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    found = []
    for number in range(2):
        with np.load(config.run_dir / f"model_{number}.npz") as kept:
            found.append(dict(kept))
    assert found[0]["ends"].shape == (2,) and found[0]["stale"].shape == (1, len(losses(TINY)))
    means = np.mean([one["stale"][0] for one in found], 0)
    rows = summary["stale"]["2"]
    assert list(rows) == list(losses(TINY))
    np.testing.assert_allclose([row[0] for row in rows.values()], means, atol=1e-6)
    fresh = np.mean([one["ends"][1] for one in found])
    assert summary["gain"]["2"][FRESH][0] == pytest.approx(fresh - means[0], abs=1e-6)
    assert (config.run_dir / "report.html").read_text().count("<figure>") == 1
    capsys.readouterr()
    study.main(config)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "seeds"),
        ({"lags": ()}, r"lags: expected numbers from 1, got \[\]"),
        ({"lags": (0, 4)}, "lags"),
        ({"width": 12}, "width: a multiple of 8, got 12"),
        ({"practised": 3}, "practised"),
        ({"cap": 0.5}, "cap"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


def test_too_few_questions_are_refused():
    with pytest.raises(InputError, match="practised: there are 200 different questions, fewer"):
        World(replace(TINY, practised=500), 0, Progress())
