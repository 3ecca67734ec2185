"""Memory of attention in chunks: a decoder layer, forward and backward, by the compiler.

Claim: with `--attention-chunk` the temporaries of a layer double as the sequence does, from 2,048
    to 32,768 tokens; recomputing the whole layer (`--remat full`) would save 3 % of them;
    with all scores at once they grow four times as fast.
Command: python -m experiments.benchmarks.attention
Runtime: 1 minute on 2 cores; nothing is computed but by the compiler.
Expected: experiments/benchmarks/expected.md. 76 MiB at 2,048 tokens, 1,250 MiB at 32,768.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.models.decoder import forward, init_params
from irl_jax.models.decoder_config import DecoderConfig
from irl_jax.recipes.cli import run
from irl_jax.types import PyTree

LAYER = DecoderConfig(
    vocab_size=64, d_model=256, n_layers=1, n_heads=4, n_kv_heads=2, head_dim=64, d_ff=1024,
    max_positions=2**20,
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """What is compiled."""

    lengths: tuple[int, ...] = (2048, 4096, 8192, 16384, 32768)  # tokens of a sequence
    chunk: int = 512  # queries, and keys, whose scores are held at a time
    longest: int = 8192  # tokens up to which attention with all scores is compiled, too


CONFIG = Config()


def temporaries(config: DecoderConfig, length: int) -> float:
    """MiB of temporaries of the gradient of a decoder on one sequence."""

    def loss(params: PyTree, tokens: Array) -> Array:
        return jnp.sum(jnp.sin(forward(config, params, tokens)[0]))

    params = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    tokens = jax.ShapeDtypeStruct((1, length), jnp.int32)
    memory: Any = jax.jit(jax.value_and_grad(loss)).lower(params, tokens).compile()
    return float(memory.memory_analysis().temp_size_in_bytes) / 2**20


def rows(config: Config) -> list[dict[str, float]]:
    """A row for each length: tokens, and MiB of each way."""
    found = []
    for length in config.lengths:
        ways = {
            "in chunks": replace(LAYER, attention_chunk=config.chunk),
            "in chunks, remat full": replace(LAYER, attention_chunk=config.chunk, remat="full"),
        }
        if length <= config.longest:
            ways["all scores"] = LAYER
        sizes = {name: temporaries(way, length) for name, way in ways.items()}
        found.append({"tokens": length, **sizes})
    return found


def main(config: Config) -> None:
    """Prints the table."""
    for row in rows(config):
        told = ", ".join(f"{k} {v:,.0f} MiB" for k, v in row.items() if k != "tokens")
        print(f"{row['tokens']:>6,} tokens: {told}", flush=True)


if __name__ == "__main__":
    run(main, CONFIG, description=__doc__)
