"""How far a policy has moved: KL to a reference, in nats a completion.

The completions must have been sampled from the policy whose `logp` is given, at
the temperature and filtering that `logp` describes; anything else measures
another quantity.

A policy whose KL cannot be told from 0 has gained nothing, whatever its reward's interval
says: `unmoved`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from irl_jax.eval.checks import F64, finite, same_shape
from irl_jax.eval.intervals import LEVEL, RESAMPLES, Interval, bootstrap

ROUNDING = 1e-3  # nats a completion by which one policy may differ from itself, sampled and scored


def completion_kl(logp: ArrayLike, ref_logp: ArrayLike, mask: ArrayLike) -> F64:
    """KL estimate of each completion, Σ_t log π(y_t) − log π_ref(y_t), nats.

    Unbiased and of either sign (k1 of `losses.policy`). By the chain rule the
    expectation over completions is KL(π || π_ref) of whole completions:
    Σ_t E KL(π(·|y_<t) || π_ref(·|y_<t)).

    Args:
        logp: f[N, T], log-probs under the policy that sampled, nats.
        ref_logp: f[N, T], log-probs under the reference, nats.
        mask: bool[N, T], true on sampled tokens; elsewhere anything may stand.

    Returns:
        f64[N].

    Raises:
        InputError: shapes differ, or a log-prob of a sampled token is not finite.
    """
    keep = np.asarray(mask, bool)
    own, ref = np.asarray(logp, np.float64), np.asarray(ref_logp, np.float64)
    same_shape(logp=own, ref_logp=ref, mask=keep)
    own = finite("logp", np.where(keep, own, 0.0), 2)
    ref = finite("ref_logp", np.where(keep, ref, 0.0), 2)
    return np.where(keep, own - ref, 0.0).sum(1)


def sequence_kl(
    logp: ArrayLike,
    ref_logp: ArrayLike,
    mask: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """KL(π || π_ref) of whole completions, nats, with its interval.

    Args:
        logp: f[N, T], log-probs under the policy that sampled, nats.
        ref_logp: f[N, T], log-probs under the reference, nats.
        mask: bool[N, T], true on sampled tokens.
        clusters: [N], label of the prompt of a completion, resampled as wholes.
        level: coverage wanted, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.
    """
    return bootstrap(
        completion_kl(logp, ref_logp, mask),
        clusters=clusters,
        level=level,
        resamples=resamples,
        seed=seed,
    )


def unmoved(kl: Interval) -> str:
    """What to say of a policy whose KL's interval holds 0; nothing of one that has moved.

    A reward can rise by √(KL / 2) of its range and no more (Pinsker's inequality), so that a
    gain at a KL of 0 is the noise of two samples, even if its own interval excludes 0: one in
    twenty does.

    Args:
        kl: of the policy to the one it started from, nats a completion, by `sequence_kl`.

    Example:
        >>> unmoved(Interval(-0.004, -0.03, 0.02))
        'no gain, the policy has not moved: its KL, -0.004 [-0.030, 0.020] nats, may be 0'
        >>> unmoved(Interval(0.4, 0.1, 0.7))
        ''
    """
    if kl.low > ROUNDING:
        return ""
    return f"no gain, the policy has not moved: its KL, {kl} nats, may be 0"
