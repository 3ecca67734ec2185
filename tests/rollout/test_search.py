"""Blocks, steps and beams against what they must reduce to."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.logprob import completion_logp
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.search import search
from irl_jax.types import InputError, Prompt
from tests.models.cases import random_params

V, T, EOS, STEP = 5, 4, 0, 4
CONFIG = DecoderConfig(
    vocab_size=V, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=8,
    max_positions=12,
)  # fmt: skip
CONTEXT = Prompt(jnp.array([[1, 2], [4, 3]]), jnp.array([[True, True], [False, True]]))
LIKING = jnp.array([0.1, 1.0, 2.5, -1.0, 0.3])


def liking(table, context, action, mask, bonus=0.0):
    """Sum over tokens, the later the dearer, so that order matters; a bonus for having ended."""
    place = 1 + 0.37 * jnp.arange(action.shape[-1])
    ended = ((action == EOS) & mask).any(-1)
    return jnp.where(mask, table[action] * place, 0.0).sum(-1) + bonus * ended


VALUE = Partial(liking, LIKING, bonus=jnp.float32(0.0))


@pytest.fixture(scope="module")
def params():
    params = random_params(CONFIG)
    return params | {"final_norm": {"scale": 0.15 * params["final_norm"]["scale"]}}


def run(params, seed=0, **changes):
    options = {
        "completions": 6, "candidates": 4, "compete": False, "block": 2, "max_new_tokens": T,
        "sampling": Sampling(), "eos_ids": (EOS,), "value": VALUE,
    }  # fmt: skip
    return jax.device_get(
        search(CONFIG, params, CONTEXT, jax.random.key(seed), **options | changes)
    )


def check_whole(group, params):
    """Masks, ends, log-probs and rewards belong to the tokens: nothing was lost in a gather."""
    length = group.mask.sum(-1)
    np.testing.assert_array_equal(group.mask, np.arange(group.mask.shape[-1]) < length[..., None])
    ends = (group.action == EOS) & group.mask
    np.testing.assert_array_equal(ends.any(-1), group.terminated)
    last = np.take_along_axis(group.action, length[..., None] - 1, -1)[..., 0]
    np.testing.assert_array_equal(last == EOS, group.terminated)
    assert (group.terminated | (length == group.mask.shape[-1])).all()
    logp = jax.jit(completion_logp, static_argnums=0)(CONFIG, params, CONTEXT, group.action)
    np.testing.assert_allclose(group.logp[group.mask], np.asarray(logp)[group.mask], atol=1e-4)
    want = liking(LIKING, CONTEXT, group.action, group.mask)
    np.testing.assert_allclose(group.reward, want, atol=1e-5)


@pytest.fixture(scope="module")
def outcomes(params):
    """Completion -> (its probability, its value), for the first prompt."""
    found = {}
    for y in itertools.product(range(V), repeat=T):
        found.setdefault(y[: y.index(EOS) + 1] if EOS in y else y, None)
    names = list(found)
    action = np.array([[(*y, *[EOS] * (T - len(y))) for y in names]] * 2)
    mask = np.array([[[t < len(y) for t in range(T)] for y in names]] * 2)
    logp = jax.jit(completion_logp, static_argnums=0)(CONFIG, params, CONTEXT, action)
    p = np.exp(np.where(mask, logp, 0.0).sum(-1, dtype=np.float64))[0]
    return names, p, np.asarray(liking(LIKING, CONTEXT, action, mask))[0]


def test_a_block_as_long_as_the_completion_is_best_of_n(params, outcomes):
    """The mean value of what is kept equals that of best-of-4, from the exact distribution."""
    _, p, value = outcomes
    assert p.sum() == pytest.approx(1, abs=1e-5)
    order = np.argsort(value)
    cdf = np.concatenate([[0], np.cumsum(p[order])])
    want = ((cdf[1:] ** 4 - cdf[:-1] ** 4) * value[order]).sum()
    group = run(params, completions=512, block=T)
    check_whole(group, params)
    reward = group.reward[0]
    assert reward.mean() == pytest.approx(want, abs=4 * float(reward.std()) / 512**0.5)


def test_shorter_blocks_look_more_often(params, outcomes):
    """Block 2 of 4 candidates, against the exact distribution of two draws of blocks."""
    names, p, value = outcomes
    action = np.array([[(*y, *[EOS] * (T - len(y))) for y in names]] * 2)

    def at(n):
        mask = np.array([[[t < min(n, len(y)) for t in range(T)] for y in names]] * 2)
        return np.asarray(liking(LIKING, CONTEXT, action, mask))[0]

    heads = {}
    for i, y in enumerate(names):
        heads.setdefault(y[:2], []).append(i)
    middle = at(2)

    def best(mass, worth):
        order = np.argsort(worth)
        cdf = np.concatenate([[0], np.cumsum(np.asarray(mass)[order] / np.sum(mass))])
        out = np.zeros(len(order))
        out[order] = cdf[1:] ** 4 - cdf[:-1] ** 4
        return out

    rows = list(heads.values())
    first = best([p[r].sum() for r in rows], np.array([middle[r[0]] for r in rows]))
    want = sum(
        q * (best(p[r], value[r]) * value[r]).sum() for q, r in zip(first, rows, strict=True)
    )
    group = run(params, completions=512)
    check_whole(group, params)
    reward = group.reward[0]
    assert reward.mean() == pytest.approx(want, abs=4 * float(reward.std()) / 512**0.5)


def test_many_beams_that_compete_find_the_best_completion(params, outcomes):
    """With enough beams nothing is lost: the first is the best of all completions."""
    names, _, value = outcomes
    group = run(params, completions=512, compete=True, block=1)
    check_whole(group, params)
    assert (np.diff(group.reward, axis=1) <= 1e-6).all()  # the best first
    best = names[int(value.argmax())]
    assert best == (2, 2, 2, 2)  # and each of its prefixes is the best of its length
    assert tuple(group.action[0, 0].tolist()) == best


def test_steps_end_with_a_token(params):
    """The value is asked for at ends of steps only: at a step token, an EOS, or the last column."""
    seen = []

    def watch(context, action, mask):
        jax.debug.callback(lambda a, m: seen.append((a, m)), action, mask)
        return liking(LIKING, context, action, mask)

    group = run(
        params, compete=True, step_ids=(STEP,), block=T, value=Partial(watch), completions=2
    )
    jax.effects_barrier()
    check_whole(group, params)
    assert len(seen) > 1
    for action, mask in seen:
        length = mask.sum(-1)
        last = np.take_along_axis(np.asarray(action), length[..., None] - 1, -1)[..., 0]
        assert (np.isin(last, (STEP, EOS)) | (length == T)).all()
    assert any(len(set(m.sum(-1).ravel().tolist())) > 1 for _, m in seen)  # each at its own pace


def test_blocks_have_their_length_and_what_has_ended_competes_once(params):
    """A short completion is worth most: each that is drawn stays, and none becomes two."""
    short = lambda action, mask: (action[..., 0] == 1) & (action[..., 1] == EOS) & mask[..., 1]
    seen = []

    def watch(context, action, mask):
        jax.debug.callback(lambda a, m: seen.append((a, m)), action, mask)
        return liking(LIKING, context, action, mask) + 100.0 * short(action, mask)

    group = run(params, compete=True, completions=6, candidates=3, value=Partial(watch))
    jax.effects_barrier()
    assert len(seen) == 2
    for i, (action, mask) in enumerate(seen):
        ended = ((action == EOS) & mask).any(-1)
        assert (mask.sum(-1)[~ended] == 2 * (i + 1)).all()
    drawn = short(*seen[0]).sum(-1)
    assert 0 < drawn.max() < 6
    np.testing.assert_array_equal(short(group.action, group.mask).sum(-1), drawn)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": 0}, "candidates: must be at least 1, got 0"),
        ({"block": 0}, "block: must be at least 1, got 0"),
        ({"completions": 0}, "completions: must be at least 1, got 0"),
    ],
)
def test_bad_arguments(params, changes, message):
    with pytest.raises(InputError, match=message):
        run(params, **changes)
