from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.valence.comparisons import draw_pairs, label, predict
from irl_jax.eval.annotator import flipping_annotator, logistic_annotator
from irl_jax.rewards.embedding import EnsembleConfig, fit_ensemble
from irl_jax.types import InputError, Preference


def test_pairs_differ_and_stay_within_their_prompts():
    prompts = np.array([1, 4, 6])
    pairs = draw_pairs(prompts, 5, 30, 0, across=False)
    assert len({tuple(sorted(p)) for p in pairs.tolist()}) == 30  # all there are
    np.testing.assert_array_equal(pairs[:, 0] // 5, pairs[:, 1] // 5)
    assert set((pairs // 5).ravel()) == {1, 4, 6}
    across = draw_pairs(prompts, 5, 100, 0, across=True)
    assert len({tuple(sorted(p)) for p in across.tolist()}) == 100
    assert (across[:, 0] // 5 != across[:, 1] // 5).mean() == pytest.approx(75 / 105, abs=0.05)
    with pytest.raises(InputError, match="the answers make 30 pairs, 31 are asked for"):
        draw_pairs(prompts, 5, 31, 0, across=False)


def test_labels_follow_the_annotator_and_pair_up_across_annotators():
    gold = np.array([[0.0, 0.5]])
    pairs = np.tile([[0, 1]], (4000, 1))
    worse = {
        beta: label(gold, pairs, logistic_annotator(beta), 0)[:, 0] == 0 for beta in (1.0, 4.0)
    }
    for beta, wrong in worse.items():
        assert wrong.mean() == pytest.approx(1 / (1 + np.exp(0.5 * beta)), abs=0.03)
    assert (worse[1.0] | ~worse[4.0]).all()  # who errs at high quality errs at low
    never = label(gold, pairs, flipping_annotator(0.0), 0)
    assert (never == [1, 0]).all()


def test_predictions_are_the_means_of_each_runs_ensemble():
    rng = np.random.default_rng(0)
    pairs = jnp.asarray(rng.standard_normal((3, 20, 2, 4)), jnp.float32)
    config = EnsembleConfig(members=2, widths=(3,), steps=1, batch_size=4)
    fit = lambda x, key: fit_ensemble(
        x, Preference.without_tokens(jnp.ones(20)), key, config=config
    )[0]
    models = jax.vmap(fit)(pairs, jax.random.split(jax.random.key(0), 3))
    answers = pairs[0, :, 0]
    got = predict(models, answers)
    for run in range(3):
        alone = jax.tree.map(lambda x, run=run: x[run], models)
        np.testing.assert_allclose(got[run], alone(answers).mean(0), rtol=1e-4, atol=1e-5)
