from __future__ import annotations

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.decomposed_preferences.adaptation import (
    ANNOTATORS,
    METHODS,
    PCA,
    POPULATION,
    RANDOM,
    TRUE_WEIGHTS,
    fit_mixture,
    reward_of,
)
from experiments.decomposed_preferences.population import compare, orthonormal, worlds
from experiments.decomposed_preferences.study import CONFIG, accuracy, main, recovery
from irl_jax.losses.mixture import annotator_log_likelihood, posterior
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.types import InputError


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("decomposed")
    rng = np.random.default_rng(0)
    np.save(path / "features.npy", rng.standard_normal((200, 2, 20)).astype(np.float32))
    config = replace(
        CONFIG,
        run_dir=path / "run",
        features=path / "features.npy",
        dims=16,
        attributes=2,
        annotators=40,
        comparisons=40,
        new_annotators=30,
        adaptation=(0, 40),
        held_out=60,
        components=2,
        seeds=2,
        mixture=EnsembleConfig(
            members=2, widths=(), steps=120, batch_size=32, lr=0.05, weight_decay=0.1
        ),
    )
    main(config)
    return config


def summary_of(config):
    return json.loads((config.run_dir / "summary.json").read_text())


def test_directions_are_found_where_they_can_be(finished):
    summary = summary_of(finished)
    share = {
        name: {basis: values[-1][0] for basis, values in bases.items()}
        for name, bases in summary["share"].items()
    }
    assert share["main axes"][PCA] > 0.9
    assert share["unrelated"][PCA] < 0.4 < 0.7 < share["unrelated"][ANNOTATORS]
    assert share["unrelated"][RANDOM] < 0.4
    # equal variances: the subspace, but not the directions in it
    assert summary["cosine"]["main axes"][PCA][-1][0] > 0.9
    assert share["equal variances"][PCA] > 0.9 > summary["cosine"]["equal variances"][PCA][-1][0]


def test_a_new_annotator_gains_from_comparisons_and_the_truth_is_best(finished):
    summary = summary_of(finished)
    assert summary["adaptation"] == [0, 40]
    for name, scores in summary["accuracy"].items():
        assert list(scores) == list(METHODS)
        at_end = {m: values[-1][0] for m, values in scores.items()}
        assert max(at_end, key=at_end.get) == TRUE_WEIGHTS, name
        assert scores[POPULATION][0] == scores[POPULATION][1]
        assert at_end[ANNOTATORS] > at_end[POPULATION] + 0.01, name
    gain = summary["against_population"]["main axes"][PCA]
    assert gain[0][0] == pytest.approx(0, abs=0.05)
    assert gain[1][0] > 0.03


def test_figures_are_means_of_what_is_kept(finished):
    summary = summary_of(finished)
    with np.load(finished.run_dir / "main_axes.npz") as arrays:
        mean = arrays["accuracy"].mean(0)
    for i, name in enumerate(METHODS):
        got = [value[0] for value in summary["accuracy"]["main axes"][name]]
        np.testing.assert_allclose(got, mean[i])
    html = (finished.run_dir / "report.html").read_text()
    assert all(world in html for world in ("Main axes", "Unrelated", "Types", "Real features"))


def test_again_it_reports_what_is_there(finished, capsys):
    main(finished)
    assert "this run is complete" in capsys.readouterr().out


def test_a_mixture_finds_two_kinds_of_people_and_tells_whose_a_new_one_is():
    """Three quarters like what the others dislike; shares and rewards are recovered."""
    world, rng = worlds(4, 1, None)["main axes"], np.random.default_rng(1)
    truth, kind = np.eye(1, 4), np.repeat([0, 0, 0, 1], 40)
    liking = np.array([2.0, -2.0])
    old, new = (
        compare(world, rng, truth, liking[of][:, None], n, new=later) / np.float32(world.scale)
        for of, n, later in ((kind, 30, False), (np.array([0, 1]), 15, True))
    )
    config = EnsembleConfig(
        members=2, widths=(), steps=200, batch_size=64, lr=0.05, weight_decay=0.0
    )
    start = jnp.zeros(4)
    fitted = fit_mixture(jnp.asarray(old), jax.random.key(0), start, components=2, config=config)
    order = np.argsort(-fitted["kernel"][0])
    want = np.outer([1, 0, 0, 0], liking)
    np.testing.assert_allclose(fitted["kernel"][:, order], want, atol=0.3)
    np.testing.assert_allclose(jax.nn.softmax(fitted["logits"][order]), [0.75, 0.25], atol=0.03)
    evidence = annotator_log_likelihood(
        reward_of(fitted["kernel"][:, order], new), jnp.ones([2, 15], bool)
    )
    belief = posterior(evidence, fitted["logits"][order])
    assert belief[0, 0] > 0.99 and belief[1, 1] > 0.99


def test_accuracy_counts_right_orders_and_ties_one_half():
    held = np.array([[[1.0, 0.0], [-1.0, 0.0], [0.0, 5.0], [2.0, 1.0]]])
    reward = np.array([[[1.0, 0.0], [0.0, 0.0]]])
    np.testing.assert_allclose(accuracy(reward, held), [2.5 / 4, 0.5])


def test_recovery_of_a_known_angle():
    """Attributes e1, e2; directions turned by half a radian, out of their plane and in it."""
    truth, scale, c, s = np.eye(2, 4), np.array([2.0, 1.0, 1.0, 4.0]), np.cos(0.5), np.sin(0.5)
    out = np.array([[c, 0, s, 0], [0, 1, 0, 0]]) / scale
    np.testing.assert_allclose(recovery(out, truth, scale), [(c**2 + 1) / 2, (c + 1) / 2])
    turned = np.array([[-s, c, 0, 0], [c, s, 0, 0]]) / scale
    np.testing.assert_allclose(recovery(7 * turned, truth, scale), [1, c])


def test_comparisons_follow_bradley_terry():
    """Shares of wins at a known logit: the chosen side has the attribute ahead at σ(v)."""
    world, rng = worlds(4, 1, None)["main axes"], np.random.default_rng(0)
    truth = np.eye(1, 4)
    fixed = replace(world, draw=lambda rng, n, new: np.tile(world.scale, (n, 1)))
    z = compare(fixed, rng, truth, np.array([[0.8], [-2.0]]), 4000, new=False)
    won = (z[..., 0] > 0).mean(1)
    np.testing.assert_allclose(won, 1 / (1 + np.exp([-0.8, 2.0])), atol=0.03)
    rows = orthonormal(rng, 3, 7)
    np.testing.assert_allclose(rows @ rows.T, np.eye(3), atol=1e-12)


def test_what_the_user_can_get_wrong(tmp_path):
    with pytest.raises(InputError, match=r"^adaptation: expected increasing counts"):
        main(replace(CONFIG, run_dir=tmp_path, adaptation=(5, 0)))
    with pytest.raises(InputError, match=r"^seeds: an interval needs 2 or more, got 1"):
        main(replace(CONFIG, run_dir=tmp_path, seeds=1))
    with pytest.raises(InputError, match=r"^attributes: expected 1 to 63 \(below dims\), got 64"):
        main(replace(CONFIG, run_dir=tmp_path, attributes=64))
    missing = replace(CONFIG, run_dir=tmp_path, features=tmp_path / "no.npy")
    with pytest.raises(InputError, match=r"no.npy: expected features f32\[N, 2, F\]"):
        main(missing)
    np.save(tmp_path / "few.npy", np.zeros((5, 2, 99), np.float32))
    with pytest.raises(InputError, match=r"few.npy: expected shape \[N, 2, F\]"):
        main(replace(missing, features=tmp_path / "few.npy"))
