"""How far a policy has moved from the model that it started from."""

from __future__ import annotations

import numpy as np

from irl_jax.eval.intervals import Interval
from irl_jax.eval.kl import sequence_kl
from irl_jax.rollout.session import Completions


def policy_kl(completions: Completions) -> Interval:
    """KL(π || π_ref), nats a completion, with its interval over prompts.

    Args:
        completions: of π, drawn at the temperature that it was trained at, above 0.
    """
    prompts, count, _ = completions.mask.shape
    flat = lambda x: x.reshape(prompts * count, -1)
    return sequence_kl(
        flat(completions.logp),
        flat(completions.ref_logp),
        flat(completions.mask),
        np.repeat(np.arange(prompts), count),
    )
