"""Speculative decoding leaves the distribution as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from irl_jax.models.decoder import DecoderConfig
from irl_jax.rollout.generate import generate
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.speculative import speculate, verify
from irl_jax.types import InputError, Prompt
from tests.models.cases import random_params
from tests.oracles import decoder as oracle
from tests.oracles.sampling import log_probs

V, T, EOS = 5, 4, 0
POLICY = DecoderConfig(
    vocab_size=V, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=8,
    max_positions=8,
)  # fmt: skip
CONTEXT = Prompt(jnp.array([[1, 2], [4, 3]]), jnp.array([[True, True], [False, True]]))
K = 4096
SETTINGS = [Sampling(), Sampling(temperature=0.8, top_p=0.9)]


def flattened(config, seed, scale=0.15):
    params = random_params(config, seed)
    return params | {"final_norm": {"scale": scale * params["final_norm"]["scale"]}}


@pytest.fixture(scope="module")
def params():
    return flattened(POLICY, 0)


@pytest.fixture(scope="module")
def drafter():
    return flattened(POLICY, 5)


def run(params, draft_config, draft_params, sampling=Sampling(), seed=0, **changes):  # noqa: B008
    options = {"completions": K, "draft_tokens": 2, "max_new_tokens": T, "eos_ids": (EOS,)}
    out = speculate(
        POLICY, params, draft_config, draft_params, CONTEXT, jax.random.key(seed),
        sampling=sampling, **options | changes,
    )  # fmt: skip
    return jax.device_get(out)


def enumerate_all(params, sampling):
    """Completion -> its probability under the sampling distribution, for each prompt."""
    found = []
    for b in range(2):
        prompt = np.asarray(CONTEXT.tokens[b])[np.asarray(CONTEXT.mask[b])]
        todo, done = {(): 0.0}, {}
        while todo:
            y, logp = todo.popitem()
            scores = oracle.logits(POLICY, params, np.concatenate([prompt, y]).astype(int))[-1]
            for z, q in enumerate(log_probs(scores, **vars(sampling))):
                if np.isfinite(q):
                    ended = z == EOS or len(y) + 1 == T
                    (done if ended else todo)[(*y, z)] = logp + q
        found.append(done)
    return found


def chi_squared(counts, expected):
    """p-value; outcomes expected fewer than 8 times are taken together."""
    rare = expected < 8
    pool = lambda x: np.append(x[~rare], x[rare].sum()) if rare.any() else x
    counts, expected = pool(counts), pool(expected)
    return scipy.stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue


@pytest.mark.parametrize("sampling", SETTINGS, ids=["plain", "truncated"])
def test_whole_completions_follow_the_policy(params, drafter, sampling):
    """Against the joint distribution, enumerated; log-probs are exact."""
    out = run(params, POLICY, drafter, sampling)
    group = out.group
    for b, want in enumerate(enumerate_all(params, sampling)):
        names = {y: i for i, y in enumerate(want)}
        rows = [tuple(a[m].tolist()) for a, m in zip(group.action[b], group.mask[b], strict=True)]
        counts = np.bincount([names[y] for y in rows], minlength=len(names))
        assert len(names) > 12
        assert chi_squared(counts, K * np.exp(list(want.values()))) > 1e-3
        logp = [want[y] for y in rows]
        np.testing.assert_allclose(group.logp[b].sum(-1), logp, atol=2e-4)
        ended = [y[-1] == EOS for y in rows]
        np.testing.assert_array_equal(group.terminated[b], ended)
    assert 0.1 < out.accepted.sum() / (2 * out.calls.sum()) < 0.9  # drafts of both fates
    assert (out.group.mask.sum(-1) - 1 >= out.calls).all()


def test_a_wrong_rule_is_seen(params, drafter, monkeypatch):
    """The test above has the power to refuse a draft that is always accepted."""
    want = enumerate_all(params, Sampling())[0]
    group = jax.device_get(
        generate(
            POLICY, drafter, CONTEXT, jax.random.key(0), completions=K, max_new_tokens=T,
            sampling=Sampling(), eos_ids=(EOS,),
        )
    )  # fmt: skip
    names = {y: i for i, y in enumerate(want)}
    rows = [tuple(a[m].tolist()) for a, m in zip(group.action[0], group.mask[0], strict=True)]
    counts = np.bincount([names[y] for y in rows], minlength=len(names))
    assert chi_squared(counts, K * np.exp(list(want.values()))) < 1e-12


def test_the_policy_as_its_own_draft_accepts_all(params):
    out = run(params, POLICY, params)
    full = ~out.group.terminated
    assert full.any()
    whole = (out.calls[full] == 1) & (out.accepted[full] == 2)  # 1 + (2 + 1) tokens
    assert whole.mean() > 0.999  # a ratio of 1 - 1e-6, by rounding, may be refused


@pytest.mark.parametrize("draft_tokens", [1, 2])
def test_greedy_is_greedy(draft_tokens, params, drafter):
    sampling = Sampling(temperature=0.0)
    out = run(params, POLICY, drafter, sampling, completions=2, draft_tokens=draft_tokens)
    plain = generate(
        POLICY, params, CONTEXT, jax.random.key(1), completions=2, max_new_tokens=T,
        sampling=sampling, eos_ids=(EOS,),
    )  # fmt: skip
    np.testing.assert_array_equal(out.group.action, plain.action)
    np.testing.assert_array_equal(out.group.mask, plain.mask)
    np.testing.assert_array_equal(out.group.logp, 0.0)


def test_tokens_a_call_are_those_of_the_paper():
    """Leviathan et al. 2022, eq. 1: (1 − α^(γ + 1)) / (1 − α), α = Σ min(p, q), if p and q stay."""
    rng = np.random.default_rng(0)
    gamma, n = 3, 40_000
    p, q = rng.dirichlet(np.ones(6), 2)
    drawn = rng.choice(6, (n, gamma), p=q)
    logq = np.broadcast_to(np.log(q), (n, gamma, 6)).astype(np.float32)
    logp = np.broadcast_to(np.log(p), (n, gamma + 1, 6)).astype(np.float32)
    accepted, tokens = jax.jit(verify)(jax.random.key(0), jnp.asarray(drawn), logq, logp)
    alpha = np.minimum(p, q).sum()
    want = (1 - alpha ** (gamma + 1)) / (1 - alpha)
    assert np.mean(accepted + 1) == pytest.approx(want, abs=0.03)
    for place in range(gamma + 1):  # every token that is kept follows p
        kept = np.asarray(tokens)[np.asarray(accepted) >= place, place]
        counts = np.bincount(kept, minlength=6)
        assert chi_squared(counts, p * len(kept)) > 1e-3


def test_the_rule_gives_p_exactly():
    """q min(1, p / q) + P(refused) max(0, p − q) / Z = p, as `verify` decides for each token."""
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(4), 2)
    refused = 1 - np.minimum(p, q).sum()
    rest = np.maximum(p - q, 0)
    np.testing.assert_allclose(np.minimum(p, q) + refused * rest / rest.sum(), p)
    n = 20_000
    for z in range(4):
        logs = (
            np.broadcast_to(np.log(x), (n, i, 4)).astype(np.float32) for x, i in ((q, 1), (p, 2))
        )
        accepted, tokens = verify(jax.random.key(z), jnp.full((n, 1), z), *logs)
        accepted, tokens = np.asarray(accepted), np.asarray(tokens)
        assert accepted.mean() == pytest.approx(min(1, p[z] / q[z]), abs=0.02)
        again = tokens[accepted == 0, 0]
        assert (rest[again] > 0).all()  # never what q has in excess


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"draft_tokens": 0}, "draft_tokens: must be at least 1, got 0"),
        ({"max_new_tokens": 7}, r"2 prompt columns \+ 7 exceed"),
    ],
)
def test_bad_arguments(params, drafter, changes, message):
    with pytest.raises(InputError, match=message):
        run(params, POLICY, drafter, **changes)


def test_vocabularies_must_agree(params):
    other = DecoderConfig(**vars(POLICY) | {"vocab_size": 6})
    with pytest.raises(InputError, match="its vocabulary has 6 tokens, the policy's 5"):
        run(params, other, random_params(other))
