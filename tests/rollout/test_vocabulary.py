"""Every way to sample knows all tokens that end a completion, and the rows that are padding."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.logprob import completion_logp
from irl_jax.rollout.generate import generate
from irl_jax.rollout.guide import DecoderGuide, MixtureGuide, PrefixGuide
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.search import search
from irl_jax.rollout.speculative import speculate
from irl_jax.rollout.steps import complete_prefixes
from irl_jax.types import Prompt
from tests.models.cases import random_params

USED, V, T, K = 6, 9, 6, 40
EOS = (3, 0)
CONFIG = DecoderConfig(
    vocab_size=V, used_vocab=USED, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4,
    d_ff=8, max_positions=16,
)  # fmt: skip
CONTEXT = Prompt(jnp.array([[1, 2], [4, 5]]), jnp.array([[True, True], [False, True]]))
KEY = jax.random.key(0)
OPTIONS = {"max_new_tokens": T, "sampling": Sampling(temperature=0.8), "eos_ids": EOS}


def shouting(seed):
    """Parameters of a decoder whose rows of padding are the likeliest, were they counted."""
    params = random_params(CONFIG, seed)
    params["final_norm"]["scale"] *= 0.3
    params["embed"]["embedding"] = params["embed"]["embedding"].at[USED:].multiply(30.0)
    return params


PARAMS, OTHER = shouting(0), shouting(1)
CRITIC = {"decoder": OTHER, "head": {"kernel": jnp.ones(8) / 8, "bias": jnp.zeros(())}}


def worth(context, action, mask):
    return jnp.where(mask, action, 0).sum(-1).astype(jnp.float32)


def guided(guide):
    return generate(
        CONFIG, PARAMS, CONTEXT, KEY, completions=K, guides=() if guide is None else (guide,),
        **OPTIONS,
    )  # fmt: skip


def searched(compete):
    return search(
        CONFIG, PARAMS, CONTEXT, KEY, value=Partial(worth), completions=K, candidates=2,
        compete=compete, block=2, **OPTIONS,
    )  # fmt: skip


def speculated(draft):
    return speculate(
        CONFIG, PARAMS, draft, OTHER, CONTEXT, KEY, completions=K, draft_tokens=2, **OPTIONS
    ).group


WAYS = {
    "plain": partial(guided, None),
    "prefix guide": partial(guided, PrefixGuide(Partial(worth), jnp.float32(0.1), 3)),
    "decoder guide": partial(guided, DecoderGuide(CONFIG, CRITIC, jnp.float32(0.5), 0)),
    "mixture": partial(guided, MixtureGuide(CONFIG, OTHER, jnp.float32(0.3))),
    "speculation": partial(speculated, CONFIG),
    "speculation, any draft": partial(speculated, replace(CONFIG, used_vocab=None)),
    "search": partial(searched, False),
    "beams": partial(searched, True),
}


@pytest.mark.parametrize("way", WAYS)
def test_completions_end_with_any_eos_and_hold_no_padding(way):
    group = jax.device_get(WAYS[way]())
    length = group.mask.sum(-1)
    np.testing.assert_array_equal(group.mask, np.arange(T) < length[..., None])
    assert group.action.max() < USED
    ends = np.isin(group.action, EOS) & group.mask
    np.testing.assert_array_equal(ends.any(-1), group.terminated)
    assert (ends.sum(-1) <= 1).all()
    last = np.take_along_axis(group.action, length[..., None] - 1, -1)[..., 0]
    np.testing.assert_array_equal(np.isin(last, EOS), group.terminated)
    assert (group.terminated | (length == T)).all()
    assert {*EOS} <= set(last.ravel())
    assert np.isfinite(group.logp).all()
    if "guide" not in way and way != "mixture":
        logp = completion_logp(CONFIG, PARAMS, CONTEXT, group.action, temperature=0.8)
        np.testing.assert_allclose(group.logp[group.mask], logp[group.mask], atol=1e-4)


def test_the_rest_of_a_solution_ends_with_any_eos():
    seen = []
    verify = lambda i, ids: seen.append(ids) or ids[-1] == EOS[1]
    done = complete_prefixes(
        CONFIG, PARAMS, [[1, 2], [5]], verify, KEY, completions=K, batch_size=2, **OPTIONS
    )
    assert all(not set(ids[:-1]) & {*EOS} and max(ids) < USED for ids in seen)
    assert {*EOS} <= {ids[-1] for ids in seen}
    assert done.right.sum() == sum(ids[-1] == EOS[1] for ids in seen)


def test_a_model_without_padding_samples_the_same():
    """The rows that are cut off are those that were never drawn."""
    cut = PARAMS | {"embed": {"embedding": PARAMS["embed"]["embedding"][:USED]}}
    small = replace(CONFIG, vocab_size=USED, used_vocab=None)
    whole = generate(CONFIG, PARAMS, CONTEXT, KEY, completions=K, **OPTIONS)
    alone = generate(small, cut, CONTEXT, KEY, completions=K, **OPTIONS)
    np.testing.assert_array_equal(whole.action, alone.action)
    np.testing.assert_allclose(whole.logp, alone.logp, atol=1e-5)


def test_padding_would_be_drawn_if_it_counted():
    """So that the tests above can fail."""
    free = replace(CONFIG, used_vocab=None)
    group = generate(free, PARAMS, CONTEXT, KEY, completions=K, **OPTIONS)
    assert (group.action >= USED).any()


def test_a_mixture_of_nothing_leaves_out_what_the_other_excludes():
    """0 times -inf is no number."""
    free = replace(CONFIG, used_vocab=None)
    guide = MixtureGuide(CONFIG, OTHER, jnp.float32(0.0))
    group = generate(free, PARAMS, CONTEXT, KEY, completions=4, guides=(guide,), **OPTIONS)
    assert np.isfinite(group.logp).all() and (group.action < USED).all()
