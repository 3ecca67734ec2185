"""Completions follow the model: greedy is argmax, log-probs are the teacher-forced ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.models import decoding
from irl_jax.models.logprob import completion_logp
from irl_jax.models.lora import attach, init_lora, merge
from irl_jax.models.mesh import global_batch, make_mesh
from irl_jax.models.sharding import RULES
from irl_jax.rollout import generate as module
from irl_jax.rollout.generate import generate
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.shard import place
from irl_jax.types import InputError, Prompt
from tests.models.cases import CONFIG, context, joined, random_params
from tests.oracles import decoder as oracle
from tests.oracles.sampling import log_probs

EOS = (4, 11)
K, T = 8, 10
SETTINGS = {
    "plain": Sampling(),
    "truncated": Sampling(temperature=0.7, top_k=12, top_p=0.9),
    "greedy": Sampling(temperature=0.0),
}


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


def sample(params, prompt, sampling, seed=0, **changes):
    options = {"completions": K, "max_new_tokens": T, "eos_ids": EOS} | changes
    key = jax.random.key(seed)
    return jax.device_get(generate(CONFIG, params, prompt, key, sampling=sampling, **options))


@pytest.fixture(scope="module", params=SETTINGS)
def drawn(request, params):
    """(setting, group of 3 x 8 completions)."""
    setting = SETTINGS[request.param]
    return setting, sample(params, context(), setting)


def test_mask_ends_with_eos(drawn):
    _, group = drawn
    assert group.action.shape == group.mask.shape == group.logp.shape == (3, K, T)
    assert group.action.dtype == np.int32 and group.logp.dtype == np.float32
    length = group.mask.sum(-1)
    np.testing.assert_array_equal(group.mask, np.arange(T) < length[..., None])
    assert length.min() >= 1
    ends = np.isin(group.action, EOS)
    for b, k in np.ndindex(3, K):
        own = ends[b, k, : length[b, k]]
        assert not own[:-1].any()  # nothing after the first EOS
        assert own[-1] == group.terminated[b, k]
        assert group.terminated[b, k] or length[b, k] == T
        np.testing.assert_array_equal(group.action[b, k, length[b, k] :], EOS[0])
    np.testing.assert_array_equal(group.logp[~group.mask], 0.0)
    np.testing.assert_array_equal(group.reward, np.zeros((3, K)))


def test_samples_are_varied(params):
    """So that the tests of this file see completions that end early, late and never."""
    group = sample(params, context(), SETTINGS["plain"])
    length = group.mask.sum(-1)
    assert {1, T} <= set(length.ravel()) and len(set(length.ravel())) > 3
    assert group.terminated.any() and not group.terminated.all()
    last = np.take_along_axis(group.action, length[..., None] - 1, -1)[..., 0]
    assert {*EOS} <= set(last.ravel())
    assert len({tuple(row) for row in group.action.reshape(-1, T)}) > 15


def test_log_probs_are_those_of_the_distribution_drawn_from(drawn, params):
    setting, group = drawn
    if setting.temperature == 0:
        np.testing.assert_array_equal(group.logp, 0.0)
        return
    for b, k, start, rest in joined(group.context, group.action, group.mask):
        scores = oracle.logits(CONFIG, params, np.concatenate([start, rest]))[len(start) - 1 :]
        want = [log_probs(x, **vars(setting))[t] for x, t in zip(scores, rest, strict=False)]
        np.testing.assert_allclose(group.logp[b, k, : len(rest)], want, atol=1e-4)


def test_log_probs_are_the_teacher_forced_ones(params):
    """What an importance ratio divides: exactly 1 on policy, up to rounding."""
    group = sample(params, context(), SETTINGS["plain"])
    logp = jax.jit(completion_logp, static_argnums=0)(CONFIG, params, group.context, group.action)
    np.testing.assert_allclose(group.logp[group.mask], logp[group.mask], atol=1e-4)


def test_greedy_is_argmax(params):
    group = sample(params, context(), SETTINGS["greedy"])
    for _, _, start, rest in joined(group.context, group.action, group.mask):
        scores = oracle.logits(CONFIG, params, np.concatenate([start, rest]))
        np.testing.assert_array_equal(rest, scores[len(start) - 1 : -1].argmax(-1))
    np.testing.assert_array_equal(group.action, group.action[:, :1].repeat(K, axis=1))


def test_the_key_decides(params):
    one, again, other = (sample(params, context(), Sampling(), seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert (one.action[..., 0] != other.action[..., 0]).mean() > 0.5


def test_columns_draw_with_keys_of_their_own(params):
    """With uniform logits, no column repeats the one before."""
    flat = jax.tree.map(jnp.zeros_like, params)
    group = sample(flat, context(), SETTINGS["plain"])
    pairs = group.mask[..., 1:]
    same = (group.action[..., 1:] == group.action[..., :-1]) & pairs
    assert pairs.sum() > 50
    assert same.sum() / pairs.sum() < 0.25


def test_greedy_rows_do_not_see_each_other(params):
    prompt = context()
    group = sample(params, prompt, SETTINGS["greedy"])
    mixed = Prompt(prompt.tokens[::-1].at[1].set(3), prompt.mask[::-1].at[1].set(True))
    other = sample(params, mixed, SETTINGS["greedy"])
    for row in (0, 2):
        np.testing.assert_array_equal(group.action[row], other.action[2 - row])
        np.testing.assert_array_equal(group.mask[row], other.mask[2 - row])


def test_wider_padding_changes_nothing(params):
    prompt = context()
    wide = Prompt(*(np.pad(x, ((0, 0), (4, 0))) for x in (prompt.tokens, prompt.mask)))
    group, other = (sample(params, p, SETTINGS["greedy"]) for p in (prompt, wide))
    np.testing.assert_array_equal(group.action, other.action)


def test_lora_beside_the_kernels_is_lora_merged(params):
    lora = init_lora(jax.random.key(0), params, 2, "attn|mlp")
    lora = jax.tree.map(lambda x: x + 0.2, lora)
    beside, merged = (
        sample(function(params, lora, 0.5), context(), SETTINGS["greedy"])
        for function in (attach, merge)
    )
    np.testing.assert_array_equal(beside.action, merged.action)
    assert (beside.action != sample(params, context(), SETTINGS["greedy"]).action).any()


def test_a_mesh_changes_nothing():
    """Data, fsdp and tensor parallel: the same tokens, log-probs up to rounding."""
    config = dataclasses.replace(CONFIG, vocab_size=20)  # divides over `tensor`
    params, prompt = random_params(config), context(config)
    prompt = jax.tree.map(lambda x: np.tile(x, (4, 1)), prompt)
    options = {"completions": 2, "max_new_tokens": 6, "eos_ids": EOS}

    def run(params, prompt):
        key, sampling = jax.random.key(0), SETTINGS["truncated"]
        return jax.device_get(generate(config, params, prompt, key, sampling=sampling, **options))

    alone, mesh = run(params, prompt), make_mesh(2, 2, 2)
    with jax.set_mesh(mesh):
        spread = run(place(mesh, params, RULES), global_batch(mesh, prompt))
    np.testing.assert_array_equal(spread.action, alone.action)
    np.testing.assert_array_equal(spread.mask, alone.mask)
    np.testing.assert_allclose(spread.logp, alone.logp, atol=1e-4)


@pytest.fixture
def traced(monkeypatch):
    """`generate` that reports the shapes it computes with and each step it takes."""
    seen = {"prefill": [], "step": [], "index": []}
    forward, decode_step = decoding.forward, module.decode_step

    def reporting_forward(config, params, tokens, **options):
        seen["prefill"].append(tokens.shape)
        return forward(config, params, tokens, **options)

    def reporting_step(config, params, layers, tokens, index, prefix, cache):
        seen["step"].append((tokens.shape, {kv.v.shape[0] for kv in prefix}))
        jax.debug.callback(lambda i: seen["index"].append(int(i)), index)
        return decode_step(config, params, layers, tokens, index, prefix, cache)

    monkeypatch.setattr(decoding, "forward", reporting_forward)
    monkeypatch.setattr(module, "decode_step", reporting_step)
    plain = jax.jit(
        generate.__wrapped__,
        static_argnames=("config", "completions", "max_new_tokens", "sampling", "eos_ids"),
    )

    def run(params, eos_ids):
        group = plain(
            CONFIG,
            params,
            context(),
            jax.random.key(0),
            completions=K,
            max_new_tokens=T,
            sampling=SETTINGS["plain"],
            eos_ids=eos_ids,
        )
        group = jax.device_get(group)
        jax.effects_barrier()
        return group, seen

    return run


def test_a_prompt_is_encoded_once_and_the_loop_ends_early(params, traced):
    """Steps are taken only while a completion is alive, each for one column of all."""
    group, seen = traced(params, tuple(range(0, CONFIG.vocab_size, 2)))
    assert seen["prefill"] == [(3, 5)]  # not 3 * K rows
    assert seen["step"] == [((3, K), {3})]  # traced once
    longest = int(group.mask.sum(-1).max())
    assert 1 < longest < T
    assert sorted(seen["index"]) == list(range(longest - 1))


def test_no_step_when_all_end_at_once(params, traced):
    group, seen = traced(params, tuple(range(CONFIG.vocab_size)))
    assert seen["index"] == []
    np.testing.assert_array_equal(group.mask.sum(-1), 1)
    assert group.terminated.all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_new_tokens": 20}, r"5 prompt columns \+ 20 exceed the model's context of 24"),
        ({"max_new_tokens": 0}, "max_new_tokens: must be at least 1, got 0"),
        ({"completions": 0}, "completions: must be at least 1, got 0"),
        ({"eos_ids": ()}, "eos_ids: name at least one token"),
    ],
    ids=str,
)
def test_bad_arguments(params, changes, message):
    with pytest.raises(InputError, match=message):
        sample(params, context(), Sampling(), **changes)


def test_the_context_may_be_filled(params):
    options = {"completions": 1, "max_new_tokens": 19, "sampling": Sampling(), "eos_ids": EOS}
    shapes = jax.eval_shape(
        lambda p: generate(CONFIG, p, context(), jax.random.key(0), **options), params
    )
    assert shapes.action.shape == (3, 1, 19)


def test_numbered_prompts_draw_by_keys_of_their_own(params):
    """Alone, in another place of a batch, in another company: the same completions."""
    prompts, numbers = context(), np.array([5, 0, 9], np.int32)
    whole = sample(params, prompts, SETTINGS["plain"], numbers=numbers)
    assert len({tuple(row) for row in whole.action.reshape(-1, T)}) > 15
    for rows in ([2, 0, 1], [1], [0, 2]):
        some = jax.tree.map(lambda x, rows=rows: x[np.array(rows)], prompts)
        found = sample(params, some, SETTINGS["plain"], numbers=numbers[rows])
        np.testing.assert_array_equal(found.action, whole.action[rows])
        np.testing.assert_array_equal(found.mask, whole.mask[rows])
    same = jax.tree.map(lambda x: np.repeat(x[:1], 2, axis=0), prompts)
    first, second = sample(params, same, SETTINGS["plain"], numbers=np.array([1, 2])).action
    assert (first != second).any()  # by number, not by prompt
