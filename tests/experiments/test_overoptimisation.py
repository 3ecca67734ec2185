"""The study of over-optimisation: planted curves are measured right; a tiny run, whole."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from experiments.overoptimisation.config import CONFIG, PolicyConfig
from experiments.overoptimisation.report import STOPPED, blocks, summarise
from experiments.overoptimisation.runs import aggregates, widened
from experiments.overoptimisation.study import arms_of, main
from experiments.sandbox.task import SandboxConfig
from irl_jax.models.heads import init_mlp
from irl_jax.rewards.embedding import EmbeddingReward, EnsembleConfig
from irl_jax.types import InputError

SEEDS, UPDATES = 4, 80
SIZES, WIDTHS = (8, 16), (2, 4)
ARMS = [f"{n} pairs, {w} units" for n in SIZES for w in WIDTHS] + ["calm"]
BASE = "16 pairs, 4 units"


@pytest.fixture(scope="module")
def planted():
    """A summary of arms with gold d (2 − log d), shifted by world; `calm` stays within 1 nat."""
    d = np.linspace(0, 6, UPDATES)
    shift = np.array([-0.3, -0.1, 0.1, 0.3])[:, None]
    gold = np.where(d > 0, d * (2 + shift - np.log(np.maximum(d, 1e-9))), 0.0)
    kl = np.tile(d**2, (SEEDS, 1))
    one = {"gold": gold, "kl": kl, "proxy": kl, "check": -np.abs(d - 1.0) + 0 * kl}
    calm = {**one, "kl": kl / 36, "gold": gold + 1.0}
    grpo = {k: np.stack([one[k]] * 4 + [calm[k]]) for k in one}
    dpo = {k: np.stack([one[k][:, ::8]] * 2) for k in one}
    rng = np.random.default_rng(0)
    chosen = {"gold": rng.normal(size=(SEEDS, 5, 8))} | {
        arm: rng.normal(size=(SEEDS, 5, 8)) for arm in ARMS
    }
    chosen[BASE] = chosen["gold"]
    found = summarise(
        chosen, grpo, dpo, sizes=SIZES, widths=WIDTHS, arms=ARMS, seconds={"all": 1.0}
    )
    return found, one


def test_planted_coefficients_are_found(planted):
    summary, _ = planted
    found = summary["fits"]["DPO"]["8 pairs"]
    assert found["alpha"].estimate == pytest.approx(2.0)
    assert found["beta"].estimate == pytest.approx(1.0)
    assert found["peak"][0] == pytest.approx(np.e)
    assert found["alpha"].low < 2.0 < found["alpha"].high
    assert summary["fits"]["GRPO"][BASE]["beta"].estimate == pytest.approx(1.0, abs=0.01)
    assert summary["correlation"][BASE].estimate == pytest.approx(1.0)


def test_landmarks_of_arms(planted):
    summary, one = planted
    gold, kl = blocks(one["gold"], 4), blocks(one["kl"], 4)
    tops = [g.max() for g in gold]
    row = summary["arms"][BASE]
    assert row["means"]["top"].estimate == pytest.approx(np.mean(tops))
    assert row["means"]["kl at the top"].estimate == pytest.approx(
        np.mean([k[g.argmax()] for k, g in zip(kl, gold, strict=True)])
    )
    assert summary["hump"].estimate == pytest.approx(np.mean(tops) - gold[:, -1].mean())
    wanted = np.sqrt(10) * (2 - np.log(10) / 2)  # blocks and lines between points bend it a little
    assert row["means"]["at 10 nats"].estimate == pytest.approx(wanted, abs=0.02)
    calm = summary["arms"]["calm"]
    assert calm["against"]["end"].estimate == pytest.approx(1.0)
    assert calm["against"]["end"].low == pytest.approx(1.0)  # paired: worlds differ by as much
    assert calm["means"]["at 10 nats"] is calm["against"]["at 10 nats"] is None


def test_differences_are_corrected_for_the_arms_of_a_column(planted):
    summary, one = planted
    others = [arm for arm in summary["arms"] if arm != BASE]
    assert list(summary["corrected"]["end"]) == others
    end = summary["corrected"]["end"]
    assert end["calm"] == pytest.approx(0.0, abs=1e-9)  # ahead by 1 in every world
    assert end["8 pairs, 2 units"] == 1.0  # the same runs
    gold = blocks(one["gold"], 4)
    stop = gold[:, blocks(one["check"], 4)[0].argmax()] - gold[:, -1]
    alone = scipy.stats.ttest_1samp(stop, 0.0).pvalue
    assert end[STOPPED] == pytest.approx(min(1.0, (len(others) - 1) * alone))  # second of five
    assert "calm" not in summary["corrected"]["at 10 nats"]


def test_stops_where_the_second_proxy_is_highest(planted):
    summary, one = planted
    at = blocks(one["check"], 4)[0].argmax()
    end = summary["arms"][STOPPED]["means"]["end"].estimate
    assert end == pytest.approx(blocks(one["gold"], 4)[:, at].mean())
    assert summary["arms"][STOPPED]["means"]["at 2 nats"] is None


def test_idle_units_change_no_reward():
    members = jax.vmap(lambda key: init_mlp(key, 3, (2,)))(jax.random.split(jax.random.key(0), 2))
    model = EmbeddingReward(members, jnp.zeros(3), jnp.ones(3))
    x = jax.random.normal(jax.random.key(1), (5, 3))
    wide = widened(model, 7)
    assert wide.members["layer_0"]["kernel"].shape == (2, 3, 7)
    np.testing.assert_allclose(wide(x), model(x), rtol=1e-6)


def test_aggregates():
    found = aggregates(jnp.array([[1.0, 0.0], [3.0, -2.0]]), deviations=1.0)
    assert {k: v.tolist() for k, v in found.items() if k != "bounded"} == {
        "one": [1.0, 0.0],
        "mean": [2.0, -1.0],
        "bound": [1.0, -2.0],
        "worst": [1.0, -2.0],
    }
    assert found["bounded"] == pytest.approx([1 / (1 + np.exp(-1)), 0.5])


@pytest.mark.slow
def test_whole_run(tmp_path):
    """Two tiny worlds: what is kept has the shapes it says, and gold is that of the reference."""
    config = replace(
        CONFIG,
        run_dir=tmp_path / "run",
        sandbox=SandboxConfig(
            vocabulary=8, max_new_tokens=6, width=8, layers=1, demonstrations=256, steps=60
        ),
        seeds=2,
        pairs=(32, 64),
        widths=(2, 8),
        best_of=8,
        best_of_prompts=4,
        reward=EnsembleConfig(members=2, steps=40, batch_size=32, lr=3e-3),
        policy=PolicyConfig(updates=8, prompts=8, dpo_updates=4, dpo_every=2, dpo_batch=16),
    )
    main(config)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    arms = list(arms_of(config))
    assert list(summary["arms"]) == [*arms, STOPPED]
    with (
        np.load(tmp_path / "run" / "grpo.npz") as grpo,
        np.load(tmp_path / "run" / "dpo.npz") as dpo,
    ):
        assert grpo["kl"].shape == (len(arms), 2, 8)
        assert dpo["kl"].shape == (2, 2, 2)
        np.testing.assert_allclose(grpo["kl"][:, :, 0], 0.0, atol=1e-4)  # before any update
        assert np.abs(grpo["gold"][:, :, 0].mean()) < 1.0
        assert grpo["kl"][:, :, -1].mean() > 0.02  # estimates; single ones may be below 0
        plain, relabelled = arms.index("64 pairs, 8 units"), arms.index("relabelled half-way")
        assert (grpo["proxy"][relabelled, :, 4] != grpo["proxy"][plain, :, 4]).all()
    assert (tmp_path / "run" / "report.html").read_text().count("<svg") >= 5
    main(config)  # reports what is there


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "seeds: intervals need 2"),
        ({"pairs": (100, 256)}, "each must divide"),
        ({"pairs": (256, 128)}, "rising"),
        ({"policy": PolicyConfig(updates=3)}, "even number"),
        ({"policy": PolicyConfig(dpo_updates=5, dpo_every=2)}, "multiple of"),
    ],
)
def test_bad_input(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        main(replace(CONFIG, run_dir=tmp_path / "run", **change))
    assert not (tmp_path / "run").exists()
