"""How many reward models on embeddings a CPU trains in a minute."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from irl_jax.rewards.embedding import EnsembleConfig, fit_ensemble
from irl_jax.types import Preference


@dataclass(frozen=True)
class RateConfig:
    """What is counted."""

    members: int = 200  # models trained at once
    pairs: int = 960  # comparisons that they learn from
    width: int = 32  # hidden layer of the wider ones


def models_a_minute(
    config: RateConfig, features: np.ndarray, reward: EnsembleConfig
) -> list[dict[str, Any]]:
    """Times ensembles of linear models and of perceptrons; compilation does not count.

    Args:
        config: what is counted.
        features: f32[P, K, F], of answers.
        reward: steps and the batch size, in answers.

    Returns:
        For each size `model`, `parameters`, `a minute` (of the clock) and `a CPU minute`
        (of all cores).
    """
    flat = features.reshape(-1, features.shape[-1])
    drawn = np.random.default_rng(0).integers(len(flat), size=(config.pairs, 2))
    batch = Preference.without_tokens(jnp.ones(config.pairs))
    rows = []
    for widths in ((), (config.width,)):
        size = replace(
            reward, widths=widths, members=config.members, batch_size=reward.batch_size // 2
        )
        args = (flat[drawn], batch, jax.random.key(0))
        program = fit_ensemble.lower(*args, config=size).compile()
        start = time.perf_counter(), time.process_time()
        model, _ = jax.block_until_ready(program(*args))
        wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
        count = sum(x[0].size for x in jax.tree.leaves(model.members))
        rows.append(
            {
                "model": f"{flat.shape[1]}-{config.width}-1" if widths else f"{flat.shape[1]}-1",
                "parameters": count,
                "steps": size.steps,
                "pairs a step": size.batch_size,
                "a minute": 60 * config.members / wall,
                "a CPU minute": 60 * config.members / cpu,
            }
        )
    return rows
