"""An ensemble of reward models on embeddings against a loop over PyTorch models, side by side.

Ten perceptrons 2048-1024-512-1 learn from 40,000 pairs of embeddings. The loop trains one
after another as the survey's authors do: each pair also stands the other way round with the
other label, Adam, batches of 10,240, f32. Bradley-Terry's loss is the same for a pair and its
mirror image, so that ours reads each pair once, in batches that make as many steps.

Claim: ours takes at most a quarter of the time a model and pass: mirror images double PyTorch's
    work, and bf16 is the faster product.
Command: python -m experiments.benchmarks.reward_ensemble (the comparison needs
    pip install "irl_jax[parity]")
Runtime: 4 min 55 s on 2 idle cores; peak memory 3.3 GiB.
Expected: experiments/benchmarks/expected.md. A model and pass takes 2.91 s against 12.0 s.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.measure import matmul_rate, peak_memory, spread
from irl_jax.eval.annotator import logistic_annotator, prefers_first
from irl_jax.recipes.cli import run as run_cli
from irl_jax.rewards.embedding import EnsembleConfig, fit_ensemble
from irl_jax.types import InputError, Preference


@dataclass(frozen=True)
class Config:
    """What is timed."""

    pairs: int = 40_000  # that are learned from
    held_out: int = 5_000  # pairs that accuracy is measured on
    dim: int = 2048  # of an embedding
    widths: tuple[int, ...] = (1024, 512)  # hidden layers
    members: int = 10  # reward models of ours; of PyTorch's, one is trained in each round
    passes: int = 3  # over the pairs
    batch: int = 10_240  # pairs and mirror images in a step of PyTorch; half as many in ours
    lr: float = 4e-3  # peak of ours, which decays to 0; learns as much as their constant one
    torch_lr: float = 1e-3  # of PyTorch's Adam
    dtype: Literal["float32", "bfloat16"] = "bfloat16"  # of our matmuls; PyTorch's are f32
    rounds: int = 2  # processes of each library, in turn
    worker: Literal["", "irl_jax", "torch"] = ""  # used inside: time one, print JSON


CONFIG = Config()


def make_pairs(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Pairs in the order of a Bradley-Terry rater, f32[N, 2, F]: to learn from, held out.

    The reward is 3 Σ_k tanh(v_k · x) over four directions v_k of unit length; embeddings x
    are standard normal.
    """
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(config.dim, 4)) / np.sqrt(config.dim)
    total = config.pairs + config.held_out
    x = rng.standard_normal((total, 2, config.dim), dtype=np.float32)
    reward = 3 * np.tanh(x @ directions.astype(np.float32)).sum(-1)
    swap = prefers_first(reward[:, 1] - reward[:, 0], logistic_annotator(1.0), rng)
    x[swap] = x[swap, ::-1]
    return x[: config.pairs], x[config.pairs :]


def time_ours(config: Config) -> dict[str, Any]:
    """Seconds a model and pass, accuracy of each member; compilation is not counted."""
    pairs, held_out = make_pairs(config)
    ensemble = EnsembleConfig(
        members=config.members,
        widths=config.widths,
        steps=-(-2 * config.passes * config.pairs // config.batch),
        batch_size=config.batch // 2,
        lr=config.lr,
        weight_decay=0.0,
        rows="passes",
        train="in turn",
        dtype=config.dtype,
    )
    batch = Preference.without_tokens(jnp.ones(len(pairs)))
    arguments = (jax.device_put(pairs), batch, jax.random.key(0))
    fit = fit_ensemble.lower(*arguments, config=ensemble).compile()
    rate = matmul_rate(config.dtype)
    start = time.perf_counter()
    model, _ = jax.block_until_ready(fit(*arguments))
    seconds = time.perf_counter() - start
    reward = np.concatenate([model(part) for part in np.array_split(held_out, 10)], axis=1)
    return {
        "seconds": [seconds / (config.members * config.passes)],
        "accuracy": (reward[..., 0] > reward[..., 1]).mean(1).tolist(),
        "rate": (rate + matmul_rate(config.dtype)) / 2,
        "memory": peak_memory(),
    }


def time_torch(config: Config) -> dict[str, Any]:
    """Seconds of each pass of one model, and its accuracy."""
    import torch
    from torch import nn

    pairs, held_out = (torch.from_numpy(x) for x in make_pairs(config))
    first = torch.cat([pairs[:, 0], pairs[:, 1]])
    second = torch.cat([pairs[:, 1], pairs[:, 0]])
    label = torch.cat([torch.ones(len(pairs)), torch.zeros(len(pairs))])
    torch.manual_seed(0)
    sizes = (config.dim, *config.widths)
    hidden = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*hidden, nn.Linear(sizes[-1], 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=config.torch_lr)
    criterion = nn.BCEWithLogitsLoss()
    seconds = []
    for _ in range(config.passes):
        start = time.perf_counter()
        for rows in torch.randperm(len(label)).split(config.batch):
            optimizer.zero_grad()
            ahead = (model(first[rows]) - model(second[rows]))[:, 0]
            criterion(ahead, label[rows]).backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    with torch.no_grad():
        right = (model(held_out[:, 0]) > model(held_out[:, 1])).float().mean()
    return {"seconds": seconds, "accuracy": [float(right)], "memory": peak_memory()}


def in_child(config: Config, worker: str) -> dict[str, Any]:
    """Times one library in a process of its own, so that they do not share threads."""
    settings = dataclasses.asdict(config) | {"worker": worker}
    flags = [
        item
        for name, value in settings.items()
        for item in (f"--{name.replace('_', '-')}", *map(str, np.atleast_1d(value)))
    ]
    command = [sys.executable, "-m", "experiments.benchmarks.reward_ensemble", *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(config: Config) -> None:
    """Times both libraries in turn and prints the ratio.

    Raises:
        InputError: PyTorch is not installed.
    """
    if config.worker:
        timer = {"irl_jax": time_ours, "torch": time_torch}[config.worker]
        print(json.dumps(timer(config)))
        return
    if importlib.util.find_spec("torch") is None:
        raise InputError('torch: not installed; pip install "irl_jax[parity]"')
    found: dict[str, list[dict[str, Any]]] = {"torch": [], "irl_jax": []}
    for _ in range(config.rounds):
        for name, results in found.items():
            results.append(in_child(config, name))
    report(config, found)


def report(config: Config, found: dict[str, list[dict[str, Any]]]) -> None:
    """Prints times, the ratio of their medians, accuracies and what bounds ours."""
    merged = {
        name: {key: [x for r in results for x in r[key]] for key in ("seconds", "accuracy")}
        for name, results in found.items()
    }
    for name, values in merged.items():
        memory = max(result["memory"] for result in found[name])
        print(f"{name:14}{spread(values['seconds'], 's a model and pass')}, {memory:.1f} GiB")
        print(f"{'':14}{spread(values['accuracy'], 'held-out accuracy')}")
    theirs, ours = (statistics.median(merged[name]["seconds"]) for name in ("torch", "irl_jax"))
    sizes = (config.dim, *config.widths, 1)
    products = [a * b for a, b in itertools.pairwise(sizes)]
    work = 2 * 2 * config.pairs * (3 * sum(products) - products[0])  # no gradient of the input
    rate = statistics.mean(result["rate"] for result in found["irl_jax"])
    print(f"ratio         {theirs / ours:.2f}, {config.dtype} against float32")
    print(
        f"ours          {100 * work / ours / 1e9 / rate:.0f} % of {rate:.0f} GFLOP/s, matmul 4096³"
    )


if __name__ == "__main__":
    run_cli(main, CONFIG, description=__doc__)
