"""Guided sampling against the policy that is optimal, enumerated."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from irl_jax.masking import gather_logp
from irl_jax.models.decoder import DecoderConfig, forward, logits
from irl_jax.models.heads import apply_scalar_head, init_scalar_head
from irl_jax.models.logprob import completion_hidden, completion_logp
from irl_jax.rollout.generate import generate
from irl_jax.rollout.guide import DecoderGuide, MixtureGuide, PrefixGuide
from irl_jax.rollout.sampling import Sampling
from irl_jax.types import InputError, Prompt
from tests.models.cases import random_params
from tests.oracles.decoder import log_softmax
from tests.train.compilations import count_compilations

V, T, EOS, BETA = 5, 3, 0, 0.4
CONFIG = DecoderConfig(
    vocab_size=V, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=8,
    max_positions=8,
)  # fmt: skip
CRITIC = DecoderConfig(
    vocab_size=V, d_model=6, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=6, d_ff=8,
    max_positions=8,
)  # fmt: skip
CONTEXT = Prompt(jnp.array([[1, 2], [4, 3]]), jnp.array([[True, True], [False, True]]))
VALUES = V ** np.arange(T)


def whole():
    """Every completion: those that end with EOS, and those of T other tokens."""
    found = []
    for n in range(1, T + 1):
        for tokens in itertools.product(range(1, V), repeat=n - 1):
            found += [(*tokens, EOS)] if n < T else [(*tokens, z) for z in range(V)]
    return found


WHOLE = whole()
ACTION = np.array([(*y, *[EOS] * (T - len(y))) for y in WHOLE], np.int32)
MASK = np.array([[t < len(y) for t in range(T)] for y in WHOLE])


def lookup(table, context, action, mask):
    """Value of each prefix from a table f32[B, T + 1, V ** T], by length and tokens."""
    place = (jnp.where(mask, action, 0) * VALUES).sum(-1)
    rows = jnp.arange(len(action))[:, None]
    return table[rows, mask.sum(-1), place]


@pytest.fixture(scope="module")
def params():
    """With logits that leave every completion likely enough to be seen."""
    params = random_params(CONFIG)
    return params | {"final_norm": {"scale": 0.4 * params["final_norm"]["scale"]}}


@pytest.fixture(scope="module")
def reference(params):
    """log π_ref of every completion, f64[B, N]."""
    action = jnp.broadcast_to(ACTION, (2, *ACTION.shape))
    logp = completion(CONFIG, params, CONTEXT, action)
    return np.where(MASK, np.asarray(logp, np.float64), 0.0).sum(-1)


@pytest.fixture(scope="module")
def reward():
    return np.random.default_rng(0).normal(size=(2, len(WHOLE)))


def soft_values(params, reference, reward):
    """V(x) = β log E exp(r / β) of every prefix, by summing over all completions of it."""
    table = np.zeros((2, T + 1, V**T))
    for b in range(2):
        for n in range(1, T + 1):
            for prefix in {y[:n] for y in WHOLE if len(y) >= n}:
                inside = [i for i, y in enumerate(WHOLE) if y[:n] == prefix]
                p = np.exp(reference[b, inside])
                mean = (p * np.exp(reward[b, inside] / BETA)).sum() / p.sum()
                table[b, n, (np.array(prefix) * VALUES[:n]).sum()] = BETA * np.log(mean)
    return jnp.asarray(table, jnp.float32)


def optimum(reference, reward):
    """log π_ref exp(r / β) / Z."""
    joint = reference + reward / BETA
    return joint - np.log(np.exp(joint).sum(1, keepdims=True))


@jax.jit
def forced(params, guides):
    """log-prob of every completion under guided sampling, f32[B, N], its tokens forced."""
    action = jnp.broadcast_to(ACTION, (2, *ACTION.shape))
    n, total = len(WHOLE), 0.0
    hidden = completion_hidden(CONFIG, params, CONTEXT, action)
    first = forward(CONFIG, params, CONTEXT.tokens, mask=CONTEXT.mask)[0][:, None, -1:]
    hidden = jnp.concatenate([jnp.broadcast_to(first, (2, n, 1, 8)), hidden], axis=2)
    states = [guide.start(CONTEXT, n, T) for guide in guides]
    for t in range(T):
        scores = logits(CONFIG, params, hidden[:, :, t])
        for i, guide in enumerate(guides):
            scores = guide.adjust(scores, jnp.int32(t), states[i])
            states[i] = guide.advance(action[..., t], jnp.int32(t), states[i])
        total += jnp.where(MASK[:, t], gather_logp(scores, action[..., t]), 0.0)
    return total


def guided_logp(params, guides):
    return np.asarray(forced(params, guides), np.float64)


def sample(params, guides, sampling=Sampling(), completions=64, seed=0):  # noqa: B008
    group = generate(
        CONFIG, params, CONTEXT, jax.random.key(seed), completions=completions,
        max_new_tokens=T, sampling=sampling, eos_ids=(EOS,), guides=guides,
    )  # fmt: skip
    return jax.device_get(group)


def numbers(group):
    """Which of WHOLE each completion is, i64[B, K]."""
    index = {y: i for i, y in enumerate(WHOLE)}
    rows = zip(group.action.reshape(-1, T), group.mask.reshape(-1, T), strict=True)
    found = [index[tuple(int(x) for x in a[m])] for a, m in rows]
    return np.array(found).reshape(group.mask.shape[:2])


def test_the_completions_are_all(reference):
    assert len(set(WHOLE)) == len(WHOLE) == 1 + 4 + 4 * 4 * 5
    np.testing.assert_allclose(np.exp(reference).sum(1), 1, atol=1e-5)


def test_the_exact_value_gives_the_optimal_policy(params, reference, reward):
    """Token by token, and yet exactly π_ref exp(r / β) / Z of whole completions."""
    table = soft_values(params, reference, reward)
    guide = PrefixGuide(Partial(lookup, table), jnp.float32(1 / BETA), top_k=0)
    want = optimum(reference, reward)
    np.testing.assert_allclose(guided_logp(params, (guide,)), want, atol=2e-4)
    assert np.abs(want - reference).max() > 1  # not the policy that it started from
    group = sample(params, (guide,), completions=256)
    which, logp = numbers(group), group.logp.sum(-1)
    np.testing.assert_allclose(logp, np.take_along_axis(want, which, 1), atol=2e-4)
    for b in range(2):
        assert np.exp(want[b, np.unique(which[b])]).sum() > 0.8  # most of it was seen


def test_a_mean_value_gives_another_policy(params, reference, reward):
    """The expected reward in place of the soft value: tokenwise optimal, not of the whole."""
    table = np.zeros((2, T + 1, V**T))
    for b in range(2):
        for n in range(1, T + 1):
            for prefix in {y[:n] for y in WHOLE if len(y) >= n}:
                inside = [i for i, y in enumerate(WHOLE) if y[:n] == prefix]
                mean = np.average(reward[b, inside], weights=np.exp(reference[b, inside]))
                table[b, n, (np.array(prefix) * VALUES[:n]).sum()] = mean
    guide = PrefixGuide(Partial(lookup, jnp.asarray(table)), jnp.float32(1 / BETA), top_k=0)
    logp = guided_logp(params, (guide,))
    p = np.exp(logp)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-4)
    gain = lambda p, logp: (p * reward).sum(1) - BETA * (p * (logp - reference)).sum(1)
    best = optimum(reference, reward)
    assert (gain(p, logp) > gain(np.exp(reference), reference)).all()
    assert (gain(p, logp) < gain(np.exp(best), best) - 1e-3).all()


def critic_params():
    return {
        "decoder": random_params(CRITIC, seed=3),
        "head": init_scalar_head(jax.random.key(0), CRITIC.d_model),
    }


def read_whole(critic, context, action, mask):
    """The head at the last token of each prefix, the prefix read anew."""
    hidden = completion_hidden(CRITIC, critic["decoder"], context, action)
    last = jnp.maximum(mask.sum(-1) - 1, 0)[..., None, None]
    return apply_scalar_head(critic["head"], jnp.take_along_axis(hidden, last, axis=2))[..., 0]


completion = jax.jit(completion_logp, static_argnums=0)
whole_reward = jax.jit(read_whole)


def by_hand(params, critic, done, b):
    """log π and the critic of every next token of prompt b after `done`, read anew."""
    t = len(done)
    tails = np.array([[[*done, z, *[EOS] * (T - 1 - t)] for z in range(V)]] * 2)
    mask = np.broadcast_to(np.arange(T) <= t, tails.shape)
    logp = completion(CONFIG, params, CONTEXT, tails)[b, :, t]
    return np.asarray(logp, np.float64), np.asarray(whole_reward(critic, CONTEXT, tails, mask))[b]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_critic_with_a_cache_rescores_the_likeliest_tokens(params, temperature):
    """ARGS by hand: of the k likeliest, argmax or softmax((logit + w r) / τ), read anew."""
    critic, w, k = critic_params(), 1.5, 3
    guide = DecoderGuide(CRITIC, critic, jnp.float32(w), k)
    group = sample(params, (guide,), Sampling(temperature=temperature), completions=2)
    for b, i in np.ndindex(2, 2):
        done = []
        for t in range(int(group.mask[b, i].sum())):
            logp, reward = by_hand(params, critic, done, b)
            likeliest = np.argsort(-logp)[:k]
            score = (logp + w * reward)[likeliest]
            token = int(group.action[b, i, t])
            if temperature == 0:
                assert token == likeliest[np.argmax(score)]
            else:
                want = log_softmax(score / temperature)[likeliest.tolist().index(token)]
                assert group.logp[b, i, t] == pytest.approx(want, abs=1e-4)
            done.append(token)


def test_guides_compose():
    """Two halves are one whole; of a shortlist the second looks at no other token."""
    table = jnp.asarray(np.random.default_rng(1).normal(size=(2, T + 1, V**T)), jnp.float32)
    scores = jnp.asarray(np.random.default_rng(2).normal(size=(2, 3, V)), jnp.float32)
    guide = lambda w, top_k: PrefixGuide(Partial(lookup, table), jnp.float32(w), top_k)
    adjust = lambda guide, x: guide.adjust(x, jnp.int32(0), guide.start(CONTEXT, 3, T))
    halves = adjust(guide(0.5, 0), adjust(guide(1.5, 0), scores))
    np.testing.assert_allclose(halves, adjust(guide(2.0, 0), scores), rtol=1e-5)
    short = adjust(guide(1.0, 0), adjust(guide(0.0, 2), scores))
    np.testing.assert_array_equal(np.isfinite(short).sum(-1), 2)


def next_token(config, params):
    """log-probs of the next token before each column of WHOLE, f64[B, N, T, V], uncached."""
    tokens = np.broadcast_to(ACTION, (2, *ACTION.shape)).reshape(-1, T)
    n = len(WHOLE)
    prompt = np.repeat(np.concatenate([CONTEXT.tokens, CONTEXT.mask], 1), n, axis=0)
    every = np.concatenate([prompt[:, :2], tokens], 1).astype(np.int32)
    mask = np.concatenate([prompt[:, 2:] > 0, np.ones_like(tokens, bool)], 1)
    hidden = jax.jit(forward, static_argnums=0)(config, params, every, mask=mask)[0]
    scores = logits(config, params, hidden[:, 1 : 1 + T])
    return log_softmax(np.float64(scores)).reshape(2, n, T, V)


def test_a_mixture_is_geometric_token_by_token(params):
    other = random_params(CRITIC, seed=5)
    mine, theirs = next_token(CONFIG, params), next_token(CRITIC, other)
    of_whole = lambda table: np.where(
        MASK, np.take_along_axis(table, np.stack([ACTION] * 2)[..., None], 3)[..., 0], 0.0
    ).sum(-1)
    assert np.abs(of_whole(mine) - of_whole(theirs)).max() > 1
    for share in (0.0, 0.3, 1.0):
        guide = MixtureGuide(CRITIC, other, jnp.float32(share))
        want = of_whole(log_softmax((1 - share) * mine + share * theirs))
        np.testing.assert_allclose(guided_logp(params, (guide,)), want, atol=2e-4)
    group = sample(params, (MixtureGuide(CRITIC, other, jnp.float32(0.3)),), completions=8)
    want = of_whole(log_softmax(0.7 * mine + 0.3 * theirs))
    which = numbers(group)
    np.testing.assert_allclose(group.logp.sum(-1), np.take_along_axis(want, which, 1), atol=2e-4)


def test_a_mixture_leaves_out_what_another_guide_excludes(params):
    guide = MixtureGuide(CRITIC, random_params(CRITIC, seed=5), jnp.float32(1.0))
    scores = jnp.zeros((2, 1, V)).at[..., 3].set(-jnp.inf)
    mixed = guide.adjust(scores, jnp.int32(0), (jnp.ones((2, 1, CRITIC.d_model)), None))
    assert jnp.isneginf(mixed).tolist() == [[[False, False, False, True, False]]] * 2


def test_a_weight_compiles_nothing(params):
    """w = 0 is the policy; another w runs the same program."""
    guide = lambda w: DecoderGuide(CRITIC, critic_params(), jnp.float32(w), 3)
    greedy = Sampling(temperature=0.0)
    some = lambda guides: sample(params, guides, greedy, completions=2)
    plain, none = some(()), some((guide(0.0),))
    np.testing.assert_array_equal(plain.action, none.action)
    with count_compilations() as compiled:
        some((guide(3.0),))
    assert not compiled["generate"]


def test_bad_guides(params):
    other = dict(vars(CRITIC)) | {"vocab_size": 7}
    critic = critic_params() | {"decoder": random_params(DecoderConfig(**other))}
    with pytest.raises(InputError, match="guide: its vocabulary has 7 tokens, the policy's 5"):
        sample(params, (DecoderGuide(DecoderConfig(**other), critic, jnp.float32(1), 0),))
    mixture = MixtureGuide(DecoderConfig(**other), critic["decoder"], jnp.float32(0.5))
    with pytest.raises(InputError, match="guide: its vocabulary has 7 tokens, the policy's 5"):
        sample(params, (mixture,))
    with pytest.raises(InputError, match="top_k: must be at least 0"):
        sample(params, (DecoderGuide(CRITIC, critic_params(), jnp.float32(1), -1),))
