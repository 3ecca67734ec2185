"""From the files of a checkpoint to parameters on a mesh: seconds, and memory beside them.

Claim: read straight to their shards, parameters need 1.3 times the memory that they take
    themselves; read to the host and then placed, they need it twice.
Command: python -m experiments.benchmarks.loading
Runtime: 8 minutes on 2 cores beside much other work.
Expected: experiments/benchmarks/expected.md. Of 3.74 GiB of parameters, 4.75 GiB at the peak by
    the one way, 7.49 GiB by the other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from irl_jax.recipes.cli import run as run_cli

WAYS = {"stream": "straight to the shards", "host": "to the host, then placed"}


@dataclass(frozen=True)
class Config:
    """What is loaded, and where to."""

    gigabytes: float = 2.0  # of the checkpoint in bfloat16, 10⁹ bytes
    file: float = 0.5  # 10⁹ bytes of one of its files, at most
    devices: int = 8  # of the CPU, over which fsdp cuts
    repeats: int = 3  # loads of each way, a process each
    worker: str = ""  # used inside: way and directory


CONFIG = Config()


def worker(config: Config) -> dict[str, float]:
    """Seconds of one load; GiB at its peak beside what was held before; GiB of the parameters."""
    import jax

    from experiments.benchmarks.measure import peak_memory
    from irl_jax.models.huggingface import load_huggingface
    from irl_jax.models.mesh import make_mesh, parameter_shardings, put
    from irl_jax.models.sharding import RULES

    way, _, directory = config.worker.partition(":")
    mesh = make_mesh(1, config.devices, 1)
    jax.block_until_ready(jax.device_put(0.0))
    before, start = peak_memory(), time.perf_counter()
    _, params = load_huggingface(directory, mesh if way == "stream" else None)
    if way == "host":
        params = put(params, parameter_shardings(mesh, params, RULES))
    jax.block_until_ready(params)
    seconds = time.perf_counter() - start
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(params)) / 2**30
    return {"seconds": seconds, "peak": peak_memory() - before, "parameters": held}


def write(config: Config, directory: Path) -> None:
    """A random Llama of the size, in several files."""
    import jax
    import numpy as np

    from irl_jax.models import huggingface
    from irl_jax.models.decoder import init_params
    from irl_jax.models.decoder_config import DecoderConfig

    shape = DecoderConfig(
        vocab_size=32_000, d_model=1024, n_layers=1, n_heads=8, n_kv_heads=8, head_dim=128,
        d_ff=4096, max_positions=1024, tie_embeddings=False,
    )  # fmt: skip
    layer = 4 * 1024**2 + 3 * 1024 * 4096
    wanted = config.gigabytes * 1e9 / 2
    shape = replace(shape, n_layers=max(1, round((wanted - 2 * 32_000 * 1024) / layer)))
    shapes = jax.eval_shape(lambda: init_params(shape, jax.random.key(0)))
    rng = np.random.default_rng(0)
    draw = lambda leaf: rng.random(leaf.shape, np.float32)
    huggingface.SHARD_BYTES = int(config.file * 1e9)
    huggingface.save_huggingface(directory, shape, jax.tree.map(draw, shapes), dtype="bfloat16")


def main(config: Config) -> None:
    """Writes a checkpoint, loads it in each way, prints medians."""
    way, _, place = config.worker.partition(":")
    if way == "write":
        write(config, Path(place))
    elif way:
        print(json.dumps(worker(config)))
    else:
        measure(config)


def measure(config: Config) -> None:
    """Each part in a process of its own: what a parent holds counts as its child's peak."""
    from experiments.benchmarks.measure import spread

    command = [sys.executable, "-m", "experiments.benchmarks.loading"]
    command += [f"--devices={config.devices}", f"--gigabytes={config.gigabytes}"]
    command += [f"--file={config.file}"]
    env = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={config.devices}"}
    with tempfile.TemporaryDirectory() as folder:

        def work(way: str) -> str:
            call = [*command, f"--worker={way}:{folder}/model"]
            return subprocess.run(
                call, stdout=subprocess.PIPE, check=True, text=True, env=env
            ).stdout

        work("write")
        for way, name in WAYS.items():
            found = [json.loads(work(way).splitlines()[-1]) for _ in range(config.repeats)]
            print(
                f"{name}: {spread([one['seconds'] for one in found], 's')}; at the peak "
                f"{spread([one['peak'] for one in found], 'GiB')}, of which the parameters are "
                f"{found[0]['parameters']:.2f} GiB"
            )


if __name__ == "__main__":
    run_cli(main, CONFIG, description=__doc__)
