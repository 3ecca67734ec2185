"""Acquisition functions against enumeration, and against cases that can be seen."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.models.heads import apply_mlp
from irl_jax.rewards import active
from irl_jax.rewards.embedding import EnsembleConfig, fit_ensemble
from irl_jax.types import InputError, Preference
from tests.oracles import active as oracles

entropy, bald = jax.jit(active.entropy), jax.jit(active.bald)
information, leverage = jax.jit(active.information), jax.jit(active.leverage)
highest = jax.jit(active.highest, static_argnames="size")
d_optimal = jax.jit(active.d_optimal, static_argnames="size")
k_centre = jax.jit(active.k_centre, static_argnames="size")
batch_bald = jax.jit(active.batch_bald, static_argnames=("size", "samples"))

N, F, M = 14, 3, 4
NONE = np.zeros(N, bool)
PRIOR = 0.5 * np.eye(F, dtype=np.float32)


def pool(seed):
    """Changes of features f32[N, F], logits f32[M, N], and which pairs are labelled."""
    rng = np.random.default_rng(seed)
    change = rng.standard_normal((N, F)).astype(np.float32)
    logit = (2 * rng.standard_normal((M, N))).astype(np.float32)
    return change, logit, rng.random(N) < 0.3


def test_highest_leaves_out_what_is_labelled():
    score = np.float32([5.0, 1.0, 4.0, 3.0, 2.0])
    labelled = np.array([True, False, False, True, False])
    assert highest(score, labelled, size=3).tolist() == [2, 4, 1]


def test_entropy_is_that_of_the_label():
    logit = np.array([-30.0, -2.0, 0.0, 0.5, 4.0])
    want = [oracles.entropy_of([p, 1 - p]) for p in oracles.sigmoid(logit)]
    np.testing.assert_allclose(entropy(np.float32(logit)), want, rtol=1e-5, atol=1e-7)
    assert float(entropy(np.float32(0.0))) == pytest.approx(np.log(2))
    assert np.isfinite(entropy(np.float32([1e4, -1e4]))).all()


def test_bald_is_the_information_of_one_label():
    _, logit, _ = pool(0)
    want = [oracles.joint_information(logit, [i]) for i in range(N)]
    np.testing.assert_allclose(bald(logit), want, rtol=1e-4, atol=1e-6)
    sure = np.float32([[40.0], [-40.0]])
    np.testing.assert_allclose(bald(sure), np.log(2), rtol=1e-6)  # log M
    np.testing.assert_allclose(bald(np.zeros((3, 1), np.float32)), 0.0, atol=1e-6)


def test_information_is_the_second_derivative_of_the_likelihood():
    change, logit, labelled = pool(1)
    got = information(change, logit[0], labelled)
    want = oracles.information(change.astype(np.float64), logit[0], np.flatnonzero(labelled))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    weights = np.float32([0.4, -1.0, 0.3])
    cost = lambda w: (jax.nn.softplus(-(change @ w)) * labelled).sum()
    hessian = jax.jit(jax.hessian(cost))(weights)
    np.testing.assert_allclose(
        information(change, change @ weights, labelled), hessian, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("seed", range(4))
def test_leverage_is_what_a_label_adds_to_the_log_determinant(seed):
    change, logit, labelled = pool(seed)
    precision = PRIOR + np.asarray(information(change, logit[0], labelled))
    got = np.log1p(jax.device_get(leverage(change, logit[0], precision)))
    wide, p64 = change.astype(np.float64), precision.astype(np.float64)
    value = partial(oracles.log_det, wide, logit[0], p64)
    np.testing.assert_allclose(got, [value([i]) - value([]) for i in range(N)], rtol=1e-3)


def test_leverage_under_the_pool_is_the_gradient_by_the_weights():
    """The rule of the authors' code: d log det(Σ wᵢ Iᵢ) / dwᵢ at equal weights."""
    change, logit, _ = pool(5)
    at = lambda w: jnp.linalg.slogdet(PRIOR + information(change, logit[0], w))[1]
    ones = np.ones(N, np.float32)
    total = PRIOR + np.asarray(information(change, logit[0], ones))
    np.testing.assert_allclose(
        leverage(change, logit[0], total), jax.jit(jax.grad(at))(ones), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("past", [False, True])
def test_d_optimal_is_greedy_in_the_log_determinant(seed, past):
    change, logit, labelled = pool(seed)
    wide = change.astype(np.float64)
    rows = np.flatnonzero(labelled) if past else []
    precision = PRIOR + oracles.information(wide, logit[0], rows)
    got = d_optimal(change, logit[0], np.float32(precision), labelled, size=5)
    value = partial(oracles.log_det, wide, logit[0], precision)
    assert got.tolist() == oracles.greedy(value, N, labelled, 5)
    assert not labelled[got].any()


@pytest.mark.parametrize("seed", range(6))
def test_d_optimal_is_near_the_best_of_all_batches(seed):
    change, logit, _ = pool(seed)
    value = partial(oracles.log_det, change.astype(np.float64), logit[0], PRIOR)
    got = d_optimal(change, logit[0], PRIOR, NONE, size=3).tolist()
    best = value(list(oracles.best_batch(value, N, 3))) - value([])
    assert value(got) - value([]) >= (1 - 1 / np.e) * best
    assert d_optimal(change, logit[0], PRIOR, NONE, size=1).tolist() == list(
        oracles.best_batch(value, N, 1)
    )


def test_d_optimal_takes_one_of_two_copies_and_knows_the_past():
    change = np.float32([[3.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    logit, prior, none = np.zeros(4, np.float32), np.eye(2, dtype=np.float32), np.zeros(4, bool)
    assert d_optimal(change, logit, prior, none, size=2).tolist() in ([0, 2], [1, 2])
    past = prior + np.asarray(information(change, logit, np.float32([100, 0, 0, 0])))
    assert d_optimal(change, logit, past, none, size=1).tolist() == [2]
    # a pair whose label is certain tells nothing, however long it is
    sure = np.float32([20.0, 20.0, 0.0, 0.0])
    assert d_optimal(change, sure, prior, none, size=1).tolist() == [2]


@pytest.mark.parametrize("seed", range(6))
def test_k_centre_takes_the_farthest(seed):
    change, _, labelled = pool(seed)
    assert k_centre(change, labelled, size=5).tolist() == oracles.k_centre(change, labelled, 5)
    assert k_centre(change, NONE, size=5).tolist() == oracles.k_centre(change, NONE, 5)


def test_k_centre_sees_a_mirrored_pair_as_the_same():
    points = np.float32([[4.0, 0.0], [-4.0, 0.1], [0.0, 1.0], [0.0, 0.1]])
    first = np.array([True, False, False, False])
    assert k_centre(points, first, size=1).tolist() == [2]


@pytest.mark.parametrize("seed", range(4))
def test_batch_bald_is_greedy_in_the_information_about_the_member(seed):
    """Each choice gives within 0.02 nats of what the best next one would give."""
    _, logit, labelled = pool(seed)
    key = jax.random.key(seed)
    chosen = batch_bald(logit, labelled, key, size=4, samples=4000).tolist()
    assert chosen[0] == np.argmax(np.where(labelled, -1, bald(logit)))
    assert not labelled[chosen].any() and len(set(chosen)) == 4
    for k in range(1, 4):
        value = lambda i, k=k: oracles.joint_information(logit, [*chosen[:k], i])
        others = [i for i in range(N) if not labelled[i] and i not in chosen[:k]]
        assert value(chosen[k]) > max(value(i) for i in others) - 0.02


def test_batch_bald_does_not_ask_the_same_twice():
    """Pairs 0 and 1 tell members 0, 1 from 2, 3; pair 2, a little weaker, 0, 2 from 1, 3."""
    one, two = np.array([1, 1, -1, -1]), np.array([1, -1, 1, -1])
    logit = np.stack([9.0 * one, 9.0 * one, 5.0 * two, 0 * one], axis=1).astype(np.float32)
    none = np.zeros(4, bool)
    key = jax.random.key(0)
    assert sorted(batch_bald(logit, none, key, size=2, samples=500).tolist()) in ([0, 2], [1, 2])
    assert set(highest(bald(logit), none, size=2).tolist()) == {0, 1}


def test_many_pools_in_one_program_equal_each_alone():
    pools = [pool(seed) for seed in range(3)]
    change, logit, labelled = (np.stack(column) for column in zip(*pools, strict=True))
    keys = jax.random.split(jax.random.key(0), 3)
    rules = {
        "d_optimal": lambda c, z, m, k: d_optimal(c, z[0], PRIOR, m, size=3),
        "k_centre": lambda c, z, m, k: k_centre(c, m, size=3),
        "batch_bald": lambda c, z, m, k: batch_bald(z, m, k, size=3, samples=50),
        "highest": lambda c, z, m, k: highest(entropy(z[0]), m, size=3),
    }
    for name, rule in rules.items():
        jitted = jax.jit(rule)
        together = jax.jit(jax.vmap(rule))(change, logit, labelled, keys)
        alone = [jitted(*row) for row in zip(change, logit, labelled, keys, strict=True)]
        np.testing.assert_array_equal(together, alone, err_msg=name)


def test_the_ensembles_mean_is_linear_in_its_last_layer():
    rng = np.random.default_rng(0)
    pairs = rng.standard_normal((40, 2, F)).astype(np.float32)
    batch = Preference.without_tokens(np.ones(40, np.float32))
    config = EnsembleConfig(members=3, widths=(7, 5), steps=2, batch_size=8)
    model, _ = fit_ensemble(pairs, batch, jax.random.key(0), config=config)
    hidden = np.asarray(jax.jit(model.last_layer)(pairs))
    assert hidden.shape == (40, 2, 15)
    weights = np.asarray(model.members["layer_2"]["kernel"])[..., 0].reshape(-1)
    bias = np.asarray(model.members["layer_2"]["bias"]).mean()
    np.testing.assert_allclose(
        hidden @ weights + bias, np.asarray(model(pairs)).mean(0), rtol=1e-4, atol=1e-5
    )
    linear = jax.tree.map(lambda x: np.asarray(x)[0], {"layer_0": model.members["layer_0"]})
    shape = jax.eval_shape(apply_mlp, linear, pairs).shape
    assert shape == (40, 2)  # no hidden layer: the features themselves


def test_says_what_is_wrong():
    change, logit, _ = pool(0)
    with pytest.raises(InputError, match=r"^size: expected 1 to 14 \(pairs\), got 15"):
        k_centre(change, NONE, size=15)
    with pytest.raises(InputError, match=r"^labelled: expected dtype bool"):
        highest(logit[0], np.zeros(N), size=1)
    with pytest.raises(InputError, match=r"^score: expected shape \[14\], got \[13\]"):
        highest(logit[0, :13], NONE, size=1)
    with pytest.raises(InputError, match=r"^precision: expected shape \[3, 3\]"):
        d_optimal(change, logit[0], np.eye(2), NONE, size=1)
    with pytest.raises(InputError, match=r"^samples: "):
        batch_bald(logit, NONE, jax.random.key(0), size=1, samples=0)
