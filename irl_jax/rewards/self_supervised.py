"""Rewards without a verifier: a reference answer's chance, a majority, a policy's own certainty.

What each of them is really of, and so where it leads if that is not what was wanted:

| reward                  | of                            | where it leads                         |
| ----------------------- | ----------------------------- | -------------------------------------- |
| `verifree_advantages`   | the reference answer's chance | to it, in these very words             |
| `reference_probability` | its tokens' mean chance       | also to answers with an unlikely part  |
| `majority_reward`       | what most samples say         | to the majority, right or wrong        |
| `certainty_reward`      | sure continuations            | to where the policy is sure already    |
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.advantages import leave_one_out
from irl_jax.masking import as_float, check_mask, check_range, check_shape, masked_mean, masked_sum
from irl_jax.types import InputError


def verifree_advantages(logp: Array, answer: Array, mask: Array) -> Array:
    """Advantages of reasonings that are followed by the reference answer, of tokens.

    Completions are o = z ⊕ a*, a sampled reasoning and the reference answer. With R = π(a*|x, z),
    tokens of z get R less the mean R of the others, tokens of a* get R: `losses.reinforce` of these
    has the gradient of E_z[π(a*|x, z)]. If one answer alone is right, that is the chance of writing
    it: what a verifier would see, without the noise of sampling an answer.

    Args:
        logp: f32[B, K, T], log-probs of the completions' tokens under the policy (nats).
        answer: bool[B, K, T], true on tokens of a*; where there are none, R = 0.
        mask: bool[B, K, T], true on tokens of z and a*.

    Returns:
        f32[B, K, T], probabilities and their differences, a constant; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype, or K < 2.

    Reference: Zhou et al. 2025, "Reinforcing General Reasoning without Verifiers", arXiv
    2505.21493.
    """
    logp = as_float("logp", logp, (None, None, None))
    check_mask("answer", answer, logp.shape)
    check_mask("mask", mask, logp.shape)
    of_answer = mask & answer
    chance = jnp.exp(masked_sum(logp, of_answer, axis=-1))
    reward = jax.lax.stop_gradient(jnp.where(of_answer.any(-1), chance, 0.0))
    advantage = jnp.where(of_answer, reward[..., None], leave_one_out(reward)[..., None])
    return jnp.where(mask, advantage, 0.0)


def reference_probability(logp: Array, answer: Array, *, plain: Array | None = None) -> Array:
    """The mean probability of a reference answer's tokens, r = 1/|a*| Σₜ π(a*ₜ|x, z, a*₍<ₜ₎).

    Its product, the answer's likelihood, is small for every long answer and for every one with a
    single surprising word; the mean is not. For the same reason a sum of likely words with one
    impossible one is paid as if it were nearly right.

    Args:
        logp: f32[B, K, T], log-probs of the tokens after a sampled reasoning z (nats).
        answer: bool[B, K, T], true on tokens of a*.
        plain: f32[B], the same without a reasoning, which is subtracted: what the reasoning adds.
            A baseline of the group takes it away again.

    Returns:
        f32[B, K] in [0, 1], or their difference; 0 without an answer.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Yu et al. 2025, "RLPR: Extrapolating RLVR to General Domains without Verifiers",
    arXiv 2506.18254.

    Example:
        >>> logp = jnp.log(jnp.array([[[0.5, 1.0, 0.25]]]))
        >>> reference_probability(logp, jnp.array([[[False, True, True]]])).round(4).tolist()
        [[0.625]]
    """
    logp = as_float("logp", logp, (None, None, None))
    check_mask("answer", answer, logp.shape)
    reward = masked_mean(jnp.exp(jnp.where(answer, logp, 0.0)), answer, axis=-1)
    if plain is None:
        return reward
    return reward - as_float("plain", plain, reward.shape[:1])[:, None]


def majority_reward(votes: Array) -> Array:
    """1 for the answer that most completions of a prompt give, rᵢ = 1(vᵢ = mode(v)).

    Where p is a policy's distribution over answers, the majority of many samples is its mode: the
    expected gradient raises the mode and lowers every other answer, the right one among them if it
    is not the mode.

    Args:
        votes: i32[B, K], the answers of K completions as numbers, equal where they are the same;
            negative where there is none, which is no answer and never right.

    Returns:
        f32[B, K] of 0 and 1; of answers that are given as often, the one given first.

    Raises:
        InputError: votes have the wrong shape, or are not integers.

    Reference: Zuo et al. 2025, "TTRL: Test-Time Reinforcement Learning", arXiv 2504.16084.

    Example:
        >>> majority_reward(jnp.array([[7, 3, 3, -1], [5, 2, -1, -1]])).tolist()
        [[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
    """
    check_shape("votes", votes, (None, None))
    if not jnp.issubdtype(jnp.result_type(votes), jnp.integer):
        raise InputError(f"votes: expected an integer dtype, got {jnp.result_type(votes)}")
    given = votes >= 0
    same = votes[:, :, None] == votes[:, None]
    first = jnp.argmax(jnp.where(given, same.sum(-1), -1), axis=-1)
    return (given & (votes == jnp.take_along_axis(votes, first[:, None], -1))).astype(jnp.float32)


def certainty_reward(certainty: Array, mask: Array, *, last: float = 1.0) -> Array:
    """The mean certainty of a completion's tokens, r = 1/|o| Σₜ cₜ.

    With c the negative entropy it is RENT's reward, with KL(uniform‖π) Intuitor's self-certainty:
    `models.logprob.completion_certainty` gives both. Certainty of a token's context does not depend
    on which token was chosen: a completion of one token teaches nothing, and a policy of several
    is drawn to prefixes after which it is sure, right or wrong.

    Args:
        certainty: f32[..., T], of each token's context.
        mask: bool[..., T].
        last: share of the tokens, from the end, that count; more than 0.

    Returns:
        f32[...]; 0 for an empty completion.

    Raises:
        InputError: an array has the wrong shape or dtype, or `last` is out of range.

    Reference: Prabhudesai et al. 2025, "Maximizing Confidence Alone Improves Reasoning", arXiv
    2505.22660 (RENT, its last chunk too); Zhao et al. 2025, "Learning to Reason without External
    Rewards", arXiv 2505.19590 (Intuitor).

    Example:
        >>> c, mask = jnp.array([[-3.0, -1.0, -2.0, 9.0]]), jnp.arange(4)[None] < 3
        >>> certainty_reward(c, mask).tolist(), certainty_reward(c, mask, last=0.5).tolist()
        ([-2.0], [-1.5])
    """
    check_range("last", last, 0.0, 1.0, exclusive=True)
    check_mask("mask", mask, jnp.shape(mask))
    certainty = as_float("certainty", certainty, mask.shape)
    left = jnp.cumsum(mask[..., ::-1], axis=-1)[..., ::-1]  # tokens from here to the end
    counted = jnp.ceil(last * mask.sum(-1, keepdims=True))
    return masked_mean(certainty, mask & (left <= counted), axis=-1)
