from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.annotation_noise.study import CONFIG, FIRST, NOISES, check, losses, main
from experiments.valence.answers import AnswersConfig
from irl_jax.eval.best_of_n import best_of_n
from irl_jax.eval.ranking import MEASURES
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.launch import splits
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.rollout.session import Completions
from irl_jax.types import InputError, Preference

RATES = (0.0, 0.4)


@pytest.fixture(scope="module")
def finished(tiny_model_dir, tmp_path_factory):
    config = replace(
        CONFIG,
        run_dir=tmp_path_factory.mktemp("noise") / "run",
        answers=AnswersConfig(
            model=str(tiny_model_dir), prompts=16, completions=8, max_new_tokens=10,
            feature_layers=1, mesh=MeshConfig(data=1),
        ),
        error_rates=RATES,
        pairs=200,
        best_of=4,
        seeds=3,
        reward=EnsembleConfig(members=2, widths=(8,), steps=60, batch_size=32, lr=1e-2),
    )  # fmt: skip
    main(config)
    return config, json.loads((config.run_dir / "summary.json").read_text())


def test_every_loss_learns_from_good_annotators_and_less_from_bad(finished):
    _, summary = finished
    rows = {(r["noise"], r["error_rate"], r["loss"]): r for r in summary["rows"]}
    assert set(rows) == {(n, rate, name) for n in NOISES for rate in RATES for name in losses(0.1)}
    for noise in NOISES:
        for name in losses(0.1):
            clean, noisy = (rows[noise, rate, name] for rate in RATES)
            assert clean["pair accuracy"][0] > 0.8, name
            assert noisy["pair accuracy"][0] < clean["pair accuracy"][0], name
            assert clean["best of n"][0] > summary["ends"]["at random"][0] + 0.1


def test_without_errors_losses_that_know_the_rate_are_bradley_terry(finished):
    reward = jnp.asarray(np.random.default_rng(0).normal(size=(50, 2)), jnp.float32)
    batch = Preference.without_tokens(jnp.ones(50))

    @partial(jax.jit, static_argnums=0)
    def slope(name, rate):
        return jax.value_and_grad(lambda r: losses(rate)[name](r, batch).mean)(reward)

    near = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    for name in ("label smoothing", "unbiased under flips"):
        jax.tree.map(near, slope(name, 0.0), slope(FIRST, 0.0))
        assert np.abs(slope(name, 0.1)[1] - slope(FIRST, 0.1)[1]).max() > 1e-3
    _, summary = finished
    for row in summary["rows"]:  # what Adam makes of it may order near ties otherwise
        if row["error_rate"] == 0 and row["loss"] == "label smoothing":
            for m in MEASURES:
                np.testing.assert_allclose(row["against"][m], 0.0, atol=0.02)


def test_figures_are_means_over_seeds_and_differences_are_paired(finished):
    _, summary = finished
    rows = {(r["noise"], r["error_rate"], r["loss"]): r for r in summary["rows"]}
    for (noise, rate, _), row in rows.items():
        first = rows[noise, rate, FIRST]
        for m in MEASURES:
            values, base = (np.array(r["by_seed"][m]) for r in (row, first))
            assert row[m][0] == pytest.approx(values.mean())
            assert row["against"][m][0] == pytest.approx((values - base).mean())


def test_ceilings_and_ends_equal_what_follows_from_gold(finished):
    config, summary = finished
    gold = Completions.load(config.run_dir / "responses.npz").values["gold"]
    held = ~splits(np.arange(16), config.held_out, 3)
    i, j = np.triu_indices(8, 1)
    tied = np.mean([(gold[own][:, i] == gold[own][:, j]).mean() for own in held])
    for row in summary["rows"]:
        if row["noise"] == NOISES[1]:  # right on 1 − ε of what differs, on half of what ties
            want = (1 - tied) * (1 - row["error_rate"]) + 0.5 * tied
            assert row["ceiling"] == pytest.approx(want)
        assert row["agreement"] <= row["ceiling"] + 1e-9
    best = np.mean([best_of_n(gold[own], gold[own], 4).mean() for own in held])
    assert summary["ends"]["by gold itself"][0] == pytest.approx(best)
    assert summary["ends"]["at random"][0] == pytest.approx(
        np.mean([gold[own].mean() for own in held])
    )


def test_the_report_names_every_loss_and_again_it_reports_what_is_there(finished, capsys):
    config, _ = finished
    html = (config.run_dir / "report.html").read_text()
    assert all(name in html for name in losses(0.1))
    main(config)
    assert "this run is complete" in capsys.readouterr().out


def test_says_what_is_wrong():
    with pytest.raises(InputError, match=r"^error_rates: give shares in \[0, 0.5\)"):
        check(replace(CONFIG, error_rates=(0.1, 0.5)))
    with pytest.raises(InputError, match=r"^best_of: expected 1 to 32"):
        check(replace(CONFIG, best_of=0))
