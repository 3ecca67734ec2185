"""An SFT step against the machine's matmul rate.

Claim: a step of supervised fine-tuning on SmolLM2, batch 8 x 256, f32, runs at 55 % or
    more of the f32 matmul rate measured in the same process, by 6 N tokens.
Command: python -m experiments.benchmarks.sft_step
Runtime: 3 minutes on 2 cores.
Expected: experiments/benchmarks/expected.md. 60 and 61 % of the matmul rate in two sittings.
"""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from experiments.benchmarks.measure import matmul_rate, peak_memory, seconds, spread
from irl_jax.models.decoder import DecoderConfig, init_params
from irl_jax.models.mesh import make_mesh
from irl_jax.models.pretrained import load_pretrained, smollm2_path
from irl_jax.models.sharding import RULES
from irl_jax.recipes.cli import run as run_cli
from irl_jax.train.objectives import sft_objective
from irl_jax.train.shard import jit_step, place
from irl_jax.train.state import init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import Demonstration, PyTree


@dataclass(frozen=True)
class Config:
    """What is timed."""

    model: str = "smollm2"  # smollm2, tiny, a GGUF file or a Hugging Face directory
    batch: int = 8  # rows
    length: int = 256  # tokens of a row
    dtype: str = "float32"  # compute dtype
    remat: str = "auto"  # what a block keeps for the backward pass, see `DecoderConfig`
    accumulate: int = 1  # micro-batches
    repeats: int = 7  # timed steps, after one that is not


CONFIG = Config()
TINY = DecoderConfig(
    vocab_size=256, d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=16, d_ff=128,
    max_positions=1024,
)  # fmt: skip


def decoder(model: str) -> tuple[DecoderConfig, PyTree]:
    """The decoder that a benchmark runs."""
    if model == "tiny":
        return TINY, init_params(TINY, jax.random.key(0))
    return load_pretrained(smollm2_path() if model == "smollm2" else Path(model))


def main(config: Config) -> None:
    """Times steps, each between two measurements of the matmul rate: machines drift."""
    shape, params = decoder(config.model)
    shape = dataclasses.replace(shape, dtype=config.dtype, remat=config.remat)
    count = sum(x.size for x in jax.tree.leaves(params))
    mesh = make_mesh(1)
    tx = optax.adamw(1e-5)
    state = place(mesh, init_state(params, tx, jax.random.key(0)), RULES)
    del params
    step = jit_step(
        make_train_step(sft_objective(shape), tx, accumulate=config.accumulate), mesh, state, RULES
    )
    size = (config.batch, config.length)
    batch = Demonstration(
        tokens=jax.random.randint(jax.random.key(1), size, 0, shape.vocab_size),
        mask=jnp.ones(size, bool).at[:, 0].set(False),
        segment=jnp.ones(size, jnp.int32),
    )
    rates = [matmul_rate(config.dtype)]

    def advance() -> jax.Array:
        nonlocal state
        state, metrics = step(state, batch)
        return metrics["loss"]

    first = seconds(advance, 1)[0]
    times, shares = [], []
    for _ in range(config.repeats):
        times += seconds(advance, 1)
        rates.append(matmul_rate(config.dtype))
        achieved = 6 * count * config.batch * config.length / times[-1] / 1e9
        shares.append(100 * achieved / statistics.mean(rates[-2:]))
    print(f"parameters            {count:,}")
    print(f"first step            {first:.1f} s, compilation included")
    print(f"step                  {spread(times, 's')}")
    print(f"{config.dtype} matmul 4096³   {spread(rates, 'GFLOP/s')}")
    print(f"6 N tokens / time     {spread(shares, '% of it')}")
    print(f"peak memory           {peak_memory():.2f} GiB")


if __name__ == "__main__":
    run_cli(main, CONFIG, description=__doc__)
