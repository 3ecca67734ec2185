"""From launch to the first training step.

Claim: what a researcher waits for before training begins, with an empty and with a full
    compilation cache.
Command: python -m experiments.benchmarks.launch
Runtime: 2 minutes on 2 cores.
Expected: experiments/benchmarks/expected.md. With an empty cache the first step is done 18.3 s
    after launch, with a full one 11.0 s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from irl_jax.recipes.cli import run as run_cli


@dataclass(frozen=True)
class Config:
    """What is timed."""

    model: str = "smollm2"  # smollm2, tiny, a GGUF file or a Hugging Face directory
    batch: int = 2  # rows of the step
    length: int = 128  # tokens of a row
    worker: float = 0.0  # used inside: time of the launch, seconds since 1970


CONFIG = Config()


def worker(config: Config) -> dict[str, float]:
    """Seconds since the launch at which each part was done."""
    import jax
    import jax.numpy as jnp
    import optax

    from experiments.benchmarks.sft_step import decoder
    from irl_jax.models.mesh import make_mesh
    from irl_jax.models.sharding import RULES
    from irl_jax.train.objectives import sft_objective
    from irl_jax.train.shard import jit_step, place
    from irl_jax.train.state import init_state
    from irl_jax.train.step import make_train_step
    from irl_jax.types import Demonstration

    done = {}

    def mark(name: str) -> None:
        done[name] = time.time() - config.worker

    mark("imports")
    shape, params = decoder(config.model)
    mark("model loaded")
    mesh, tx = make_mesh(1), optax.adamw(1e-5)
    state = place(mesh, init_state(params, tx, jax.random.key(0)), RULES)
    step = jit_step(make_train_step(sft_objective(shape), tx), mesh, state, RULES)
    size = (config.batch, config.length)
    batch = Demonstration(
        tokens=jnp.ones(size, jnp.int32),
        mask=jnp.ones(size, bool),
        segment=jnp.ones(size, jnp.int32),
    )
    mark("state placed")
    state, metrics = step(state, batch)
    jax.block_until_ready((state, metrics))
    mark("first step")
    state, metrics = step(state, batch)
    jax.block_until_ready((state, metrics))
    mark("second step")
    return done


def main(config: Config) -> None:
    """Launches twice with one compilation cache: empty, then full."""
    if config.worker:
        print(json.dumps(worker(config)))
        return
    with tempfile.TemporaryDirectory() as cache:
        settings = {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        for state in ("empty", "full"):
            command = [sys.executable, "-m", "experiments.benchmarks.launch"]
            command += [f"--model={config.model}", f"--batch={config.batch}"]
            command += [f"--length={config.length}", f"--worker={time.time()}"]
            out = subprocess.run(
                command, stdout=subprocess.PIPE, check=True, text=True, env=os.environ | settings
            ).stdout
            parts = json.loads(out.splitlines()[-1])
            marks = ", ".join(f"{name} {at:.1f}" for name, at in parts.items())
            print(f"compilation cache {state}: {marks} (seconds since launch)")


if __name__ == "__main__":
    run_cli(main, CONFIG, description=__doc__)
