"""Completions of several rollouts in one group, on a real decoder."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.models.logprob import completion_logp
from irl_jax.rollout.generate import generate
from irl_jax.rollout.guide import MixtureGuide
from irl_jax.rollout.opponents import (
    Demonstrated,
    split_opponents,
    with_demonstrations,
    with_opponents,
)
from irl_jax.rollout.sampling import Sampling
from irl_jax.types import InputError
from tests.models.cases import random_params
from tests.rollout.test_guide import CONFIG, CONTEXT, EOS, T

SAMPLE = partial(
    generate, CONFIG, completions=3, max_new_tokens=T, sampling=Sampling(), eos_ids=(EOS,)
)
GREEDY = partial(SAMPLE, completions=1, sampling=Sampling(temperature=0.0))


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_each_rollout_answers_in_its_place(params):
    reference, key = random_params(CONFIG, 7), jax.random.key(4)
    mixture = partial(SAMPLE, guides=(MixtureGuide(CONFIG, reference, jnp.float32(0.5)),))
    group = with_opponents(SAMPLE, GREEDY, mixture)(params, CONTEXT, key)
    assert group.action.shape == (2, 7, T) and group.reward.shape == (2, 7)
    first, second, third = jax.random.split(key, 3)
    own, rest = split_opponents(group, 3)
    greedy, opponents = split_opponents(rest, 1)
    same(own, SAMPLE(params, CONTEXT, first))
    same(greedy, GREEDY(params, CONTEXT, second))
    same(opponents, mixture(params, CONTEXT, third))
    assert not np.array_equal(own.action, opponents.action)


def test_demonstrations_come_last_with_their_log_probs(params):
    key = jax.random.key(4)
    shown = SAMPLE(random_params(CONFIG, 7), CONTEXT, key)
    cut = jax.tree.map(lambda x: x[:, :1], (shown.action, shown.mask, shown.terminated))
    logp = lambda params, group: completion_logp(CONFIG, params, group.context, group.action)
    group = with_demonstrations(SAMPLE, logp)(params, Demonstrated(CONTEXT, *cut), key)
    own, last = split_opponents(group, 3)
    same(own, SAMPLE(params, CONTEXT, key))
    same((last.action, last.mask, last.terminated), cut)
    expected = completion_logp(CONFIG, params, CONTEXT, cut[0])
    np.testing.assert_allclose(last.logp, expected, rtol=1e-5)


def test_what_does_not_fit_is_named(params):
    short = partial(GREEDY, max_new_tokens=T - 1)
    with pytest.raises(InputError, match=r"with_opponents: rollouts of \[3, 2\] tokens"):
        with_opponents(GREEDY, short)(params, CONTEXT, jax.random.key(0))
    group = SAMPLE(params, CONTEXT, jax.random.key(0))
    for first in (0, 3):
        with pytest.raises(InputError, match=f"^first: {first} of 3 completions"):
            split_opponents(group, first)
