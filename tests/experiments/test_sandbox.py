"""The sandbox: gold is what its equation says, annotators err as told, KL starts at 0."""

import collections
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.sandbox import task as sandbox
from experiments.sandbox.world import EOS, init_taste, raw_gold
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.train.run import RunDirectory
from irl_jax.types import Prompt

CONFIG = sandbox.SandboxConfig(
    vocabulary=8, max_new_tokens=8, width=8, layers=1, demonstrations=256, steps=60, batch_size=32
)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A tiny world, as kept: read back from its file."""
    with RunDirectory(tmp_path_factory.mktemp("run"), {}) as run:
        made = sandbox.kept_task(run, CONFIG, 0)
        again = sandbox.kept_task(run, CONFIG, 0)
    assert jax.tree.structure(made) == jax.tree.structure(again)
    return again


@pytest.fixture(scope="module")
def group(task):
    """64 x 4 completions of the reference policy."""
    context = sandbox.draw_prompts(task, KEY, 64)
    return sandbox.sample(task, task.reference, context, jax.random.fold_in(KEY, 1), completions=4)


def gold_oracle(taste, prompt, completion):
    """The equation of the module for one completion without EOS, with loops."""
    total, last = 0.0, prompt[-1]
    for symbol, times in collections.Counter(completion).items():
        like = float(taste.liking[symbol])
        like += sum(float(taste.suits[p, symbol]) for p in prompt) / len(prompt)
        total += like * math.sqrt(times) - float(taste.repetition) * max(times - 2, 0)
    for symbol in completion:
        total, last = total + float(taste.order[last, symbol]), symbol
    return total


def test_gold_is_the_equation():
    taste = init_taste(KEY, 8)
    rng = np.random.default_rng(0)
    prompt = rng.integers(1, 8, (3, 4))
    action = rng.integers(1, 4, (3, 2, 8))  # few symbols, so that some are repeated
    length = rng.integers(0, 8, (3, 2))
    action[np.arange(8) == length[..., None]] = EOS
    mask = np.arange(8) <= length[..., None]
    context = Prompt(jnp.asarray(prompt), jnp.ones((3, 4), bool))
    found = raw_gold(taste, context, jnp.asarray(action), jnp.asarray(mask))
    for b, k in np.ndindex(3, 2):
        wanted = gold_oracle(taste, prompt[b], action[b, k, : length[b, k]].tolist())
        np.testing.assert_allclose(found[b, k], wanted, rtol=1e-5, atol=1e-5)


def test_the_reference_is_standardised_and_has_no_kl(task, group):
    found = sandbox.measures(task, task.reference, group)
    assert abs(float(found.gold.mean())) < 4 / math.sqrt(64)
    assert abs(float(group.reward.std()) - 1) < 0.25
    np.testing.assert_allclose(found.kl, 0.0, atol=1e-4)


def test_annotators_err_as_told(group):
    exact = sandbox.compare(group, KEY, beta=jnp.inf)
    score = {
        tuple(row.tolist()): float(gold)
        for row, gold in zip(
            np.concatenate(
                [np.repeat(group.context.tokens[:, None], 4, 1), group.action], -1
            ).reshape(256, -1),
            np.asarray(group.reward).ravel(),
            strict=True,
        )
    }
    rows = np.concatenate(
        [np.repeat(exact.context.tokens[:, None], 2, 1), exact.action], -1
    ).tolist()
    gap = np.array([score[tuple(a)] - score[tuple(b)] for a, b in rows])
    assert len(gap) == 128
    assert (gap >= 0).all()
    noisy = sandbox.compare(group, KEY, beta=1.0)
    swapped = (np.asarray(noisy.action) != np.asarray(exact.action)).any((1, 2))
    expected = 1 / (1 + np.exp(gap[gap > 0]))
    error = math.sqrt((expected * (1 - expected)).sum()) / len(expected)
    assert abs(swapped[gap > 0].mean() - expected.mean()) < 4 * error


def test_a_proxy_learns_some_of_gold(task, group):
    config = EnsembleConfig(members=2, widths=(16,), steps=150, batch_size=64, lr=3e-3)
    model = sandbox.learn_proxy(task, sandbox.compare(group, KEY, beta=4.0), KEY, config=config)
    context = sandbox.draw_prompts(task, jax.random.fold_in(KEY, 2), 64)
    fresh = sandbox.sample(task, task.reference, context, jax.random.fold_in(KEY, 3), completions=4)
    reward = sandbox.proxy(task, model, fresh)
    assert reward.shape == (2, 64, 4)
    assert np.corrcoef(reward.mean(0).ravel(), fresh.reward.ravel())[0, 1] > 0.3
