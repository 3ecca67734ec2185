"""How far a policy has moved from the model that it started from, on given prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from irl_jax.data.encode import EncodedPrompt
from irl_jax.eval.intervals import Interval
from irl_jax.eval.kl import sequence_kl
from irl_jax.recipes.policy_training import PolicySetup
from irl_jax.recipes.preference_measures import chunks, numbers_of
from irl_jax.train.progress import Advance
from irl_jax.train.shard import fetch
from irl_jax.types import PyTree

STAGE = 4  # of the keys that completions are drawn with


def policy_kl(
    setup: PolicySetup,
    policy: PyTree,
    prompts: Sequence[EncodedPrompt],
    *,
    batch_size: int,
    advance: Advance,
) -> Interval:
    """KL(π || π_ref), nats a completion, with its interval over prompts.

    Args:
        setup: its model is π_ref; its sampling, at a temperature above 0, that of training.
        policy: parameters of the decoder π.
        prompts: answered once each.
        batch_size: prompts at a time.
        advance: told the number of prompts done.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    done = 0
    for number, (count, rows) in enumerate(chunks(prompts, batch_size)):
        group = setup.sample(
            policy,
            setup.prompts(rows),
            setup.key(STAGE),
            1,
            numbers=numbers_of(number, batch_size),
        )
        ref_logp = setup.logp(setup.model.params, group, setup.sampling.temperature)
        found = fetch((group.logp, ref_logp, group.mask))
        parts.append(tuple(x[:count, 0] for x in found))
        done += count
        advance(done, {})
    return sequence_kl(*(np.concatenate(column) for column in zip(*parts, strict=True)))
