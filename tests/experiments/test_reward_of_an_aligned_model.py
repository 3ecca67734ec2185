"""The reward of an aligned model: what is read from samples, against what, and in which rows."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from experiments.reward_of_an_aligned_model.readings import (
    READINGS,
    SAMPLED,
    WEIGHTS,
    max_margin,
    orders,
    read,
    shuffled,
)
from experiments.reward_of_an_aligned_model.report import LENGTH, LIKELIHOOD, VADER
from experiments.reward_of_an_aligned_model.study import (
    ASKED,
    CONFIG,
    PolicyConfig,
    cells,
    judge,
    main,
)
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.policy_training import LoraConfig
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.rollout.session import Completions
from irl_jax.types import InputError

QUICK = EnsembleConfig(members=2, widths=(), steps=200, batch_size=32, lr=3e-2, weight_decay=0.0)


def margin(w, policy, reference):
    """How far the policy is ahead under w, in units of the reward's scale ‖σ ∘ w‖."""
    scale = np.concatenate([policy, reference]).std(0)
    return w @ (policy.mean(0) - reference.mean(0)) / np.linalg.norm(scale * w)


def test_no_direction_has_a_larger_margin():
    rng = np.random.default_rng(0)
    scale = np.array([1.0, 10.0, 0.1])
    policy, reference = rng.normal(size=(2, 50, 3)) * scale
    policy += np.array([0.5, -3.0, 0.02])
    w = np.asarray(max_margin(jnp.asarray(policy, jnp.float32), jnp.asarray(reference)), float)
    best = margin(w, policy, reference)
    others = [margin(x, policy, reference) for x in rng.normal(size=(2000, 3)) / scale]
    near = [margin(w + 1e-2 * x, policy, reference) for x in rng.normal(size=(200, 3)) / scale]
    assert best > max(others) and best > max(near)
    spread = np.concatenate([policy, reference]).std(0)
    assert np.linalg.norm(spread * w) == pytest.approx(1.0, rel=1e-4)
    by_hand = (policy.mean(0) - reference.mean(0)) / spread**2
    np.testing.assert_allclose(w / np.linalg.norm(w), by_hand / np.linalg.norm(by_hand), rtol=1e-3)


def test_of_equal_samples_the_margin_is_nothing():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
    np.testing.assert_array_equal(max_margin(x, x), np.zeros(3))


def test_every_reading_finds_what_moved():
    """The policy is ahead along the first feature; swapped, every reading turns round."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(400, 4)).astype(np.float32)
    features[:200, 0] += 2.0
    judged = rng.normal(size=(300, 4)).astype(np.float32)
    pairs = np.stack([np.arange(200), 200 + np.arange(200)], axis=-1)[None]
    keys = jax.random.split(jax.random.key(0), 1)
    for sign, given in ((1, pairs), (-1, pairs[..., ::-1])):
        found = read(jnp.asarray(features), given, keys, jnp.asarray(judged), QUICK)
        assert set(found) == set(SAMPLED)
        for name, reward in found.items():
            assert reward.shape == (1, 300), name
            assert sign * scipy.stats.spearmanr(reward[0], judged[:, 0])[0] > 0.85, name


def test_a_shuffled_adapter_has_the_same_numbers():
    rng = np.random.default_rng(0)
    tree = {"a": jnp.asarray(rng.normal(size=(5, 4))), "b": jnp.asarray(rng.normal(size=(2, 6)))}
    found = shuffled(jax.random.key(0), tree)
    for name, x in tree.items():
        assert found[name].shape == x.shape and np.any(found[name] != x)
        np.testing.assert_array_equal(np.sort(found[name], axis=None), np.sort(x, axis=None))


def test_orders_are_within_prompts_and_means_over_draws():
    rng = np.random.default_rng(0)
    gold, reward = rng.normal(size=(4, 6)), rng.normal(size=(3, 4, 6))
    gold[2] = 0.5
    found = orders(reward + 100 * rng.normal(size=(1, 4, 1)), gold)
    for p in (0, 1, 3):
        by_hand = [scipy.stats.spearmanr(r[p], gold[p])[0] for r in reward]
        assert found[p] == pytest.approx(np.mean(by_hand))
    assert np.isnan(found[2])


def completions(features, gold, tokens=None, **values):
    """Answers of these features and golds; each token has a log-prob of -1 under the reference."""
    shape = gold.shape
    tokens = np.ones(shape, int) if tokens is None else tokens
    mask = np.arange(5) < tokens[..., None]
    padded = np.where(mask, -1.0, np.nan)
    return Completions(
        [[""] * shape[1]] * shape[0], mask.astype(int), mask, mask[..., 0], padded, padded,
        {"features": features, "gold": gold, **values},
    )  # fmt: skip


def test_which_samples_are_read_against_which():
    """The policy is ahead in feature 0, the first reference sample in 1; VADER likes 2."""
    rng = np.random.default_rng(0)
    config = replace(
        CONFIG, train=20, held_out=6, samples=10, judged=8, pairs=(200,), draws=2, reading=QUICK
    )
    draw = lambda *shape: rng.normal(size=(*shape, 4))
    policy, reference = draw(20, 10), draw(20, 20)
    policy[..., :2] += 3.0
    reference[:, :10, 1] += 3.0
    found = {
        "policy": completions(policy, policy[..., 2]),
        "reference": completions(reference, reference[..., 2]),
    }
    for axis, name in enumerate(ASKED):
        judged = draw(6, 8)
        tokens = rng.integers(1, 6, (6, 8))
        gold = judged[..., axis]
        extra = {"aligned": gold - tokens, "shuffled": -gold - tokens}
        found[name] = completions(judged, gold, tokens, **extra)
    known = judge(config, found)
    first, second = ASKED
    mean = lambda *name: known["/".join(name)].mean()
    for name in SAMPLED:
        assert mean(first, "aligned", name) > 0.7 > 0.5 > abs(mean(second, "aligned", name)), name
        assert mean(second, "unmoved", name) > 0.7 > 0.5 > abs(mean(first, "unmoved", name)), name
    for where in ASKED:
        assert mean(where, "aligned", WEIGHTS) == pytest.approx(1.0)
        assert mean(where, "unmoved", WEIGHTS) == pytest.approx(-1.0)
        assert mean(where, "baseline", LENGTH) == pytest.approx(
            -mean(where, "baseline", LIKELIHOOD)
        )
        assert abs(mean(where, "baseline", VADER)) < 0.5
    found[first].values["gold"][:] = found[first].values["features"][..., 2]
    assert judge(config, found)[f"{first}/baseline/{VADER}"].mean() > 0.7


def test_a_draw_reads_no_answer_twice():
    config = replace(CONFIG, train=4, samples=3, pairs=(5, 12), draws=3)
    for count in config.pairs:
        found = cells(config, count)
        assert found.shape == (3, count)
        assert all(len(set(row)) == count for row in found.tolist())
        assert found.min() >= 0 and found.max() < 12
    assert len({tuple(row) for row in cells(config, 5).tolist()}) == 3


@pytest.mark.slow
def test_a_whole_run(tiny_model_dir, tmp_path):
    config = replace(
        CONFIG, model=str(tiny_model_dir), run_dir=tmp_path / "run", train=8, held_out=6, samples=4,
        judged=6, pairs=(8, 32), draws=2, max_new_tokens=10, feature_layers=1,
        policy=PolicyConfig(steps=16, prompts=8, completions=8, lr=1e-2, lora=LoraConfig(8, 16.0)),
        reading=EnsembleConfig(members=2, steps=40, lr=3e-3), mesh=MeshConfig(data=1),
    )  # fmt: skip
    main(config)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["gold_gain"][1] > 0.0 and summary["kl"][1] > 1.0
    for where in ASKED:
        assert set(summary["orders"][where]["aligned"]) == set(READINGS)
        for kind in ("aligned", "unmoved"):
            _, low, high = summary["orders"][where][kind][WEIGHTS][0]
            assert -1.0 <= low <= high <= 1.0
        assert set(summary["corrected"][where]) == set(READINGS)
        for name in READINGS:
            estimate = summary["less_control"][where][name][-1][0]
            kinds = summary["orders"][where]
            gap = kinds["aligned"][name][-1][0] - kinds["unmoved"][name][-1][0]
            assert estimate == pytest.approx(gap, abs=1e-6)
    report = (tmp_path / "run" / "report.html").read_text()
    assert report.count("<svg") >= 2 and "On other topics and words" in report


def test_mistakes_are_named():
    with pytest.raises(
        InputError, match=r"pairs: expected 2 to 12 \(train x samples\), got \(20,\)"
    ):
        replace(CONFIG, train=4, samples=3, pairs=(20,))
    with pytest.raises(InputError, match="judged"):
        replace(CONFIG, judged=1)
