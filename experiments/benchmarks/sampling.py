"""Sampling against `transformers`' `generate`, side by side.

Claim: sampling 32 x (64 + 128 new) tokens with SmolLM2 in f32 is at least 1.5 times as
    fast as `transformers` on the same machine.
Command: python -m experiments.benchmarks.sampling (the comparison needs
    pip install "irl_jax[parity]"; without it, ours alone is timed)
Runtime: 6 minutes on 2 cores.
Expected: experiments/benchmarks/expected.md. 2.04 times as many tokens a second as `transformers`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from experiments.benchmarks.measure import spread
from experiments.benchmarks.sft_step import decoder
from irl_jax.models.huggingface import save_huggingface
from irl_jax.recipes.cli import run as run_cli
from irl_jax.rollout.generate import generate
from irl_jax.rollout.sampling import Sampling
from irl_jax.types import Prompt


@dataclass(frozen=True)
class Config:
    """What is timed. No sequence stops before it has all its tokens."""

    model: str = "smollm2"  # smollm2, tiny, a GGUF file or a Hugging Face directory
    prompts: int = 32  # prompts, all different
    completions: int = 1  # completions of each prompt (ours encodes a prompt once)
    prompt_tokens: int = 64  # tokens of a prompt
    new_tokens: int = 128  # tokens drawn for each completion
    dtype: str = "float32"  # compute dtype of both
    repeats: int = 3  # timed calls of each library in each of its processes
    rounds: int = 2  # processes of each library, in turn
    worker: Literal["", "irl_jax", "transformers"] = ""  # used inside: time one, print JSON
    directory: str = ""  # used inside: the model as transformers reads it


CONFIG = Config()


def time_ours(config: Config) -> list[float]:
    """Seconds of each call of `generate`, the first of which is not counted."""
    shape, params = decoder(config.model)
    shape = dataclasses.replace(shape, dtype=config.dtype)
    params = jax.tree.map(jnp.asarray, params)
    size = (config.prompts, config.prompt_tokens)
    tokens = jax.random.randint(jax.random.key(1), size, 3, shape.vocab_size)
    context = Prompt(tokens=tokens, mask=jnp.ones(size, bool))
    times = []
    for i in range(config.repeats + 1):
        start = time.perf_counter()
        group = generate(
            shape,
            params,
            context,
            jax.random.key(i),
            completions=config.completions,
            max_new_tokens=config.new_tokens,
            sampling=Sampling(),
            eos_ids=(shape.vocab_size,),  # never drawn
        )
        drawn = int(group.mask.sum())
        times.append(time.perf_counter() - start)
        assert drawn == config.prompts * config.completions * config.new_tokens
    return times[1:]


def time_transformers(config: Config) -> list[float]:
    """Seconds of each call of `transformers`' generate, after one that is not counted."""
    import torch
    import transformers

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        config.directory, dtype=getattr(torch, config.dtype)
    )
    torch.manual_seed(0)
    tokens = torch.randint(
        3, model.config.vocab_size, (config.prompts * config.completions, config.prompt_tokens)
    )
    times = []
    for _ in range(config.repeats + 1):
        start = time.perf_counter()
        out = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            min_new_tokens=config.new_tokens,
            max_new_tokens=config.new_tokens,
            pad_token_id=0,
        )
        times.append(time.perf_counter() - start)
        assert out.shape[1] == config.prompt_tokens + config.new_tokens
    return times[1:]


def in_child(config: Config, worker: str, directory: str) -> list[float]:
    """Times one library in a process of its own, so that they do not share threads."""
    flags = [
        f"--{field.name.replace('_', '-')}={getattr(config, field.name)}"
        for field in dataclasses.fields(config)
        if field.name not in ("worker", "directory")
    ]
    command = [sys.executable, "-m", "experiments.benchmarks.sampling", *flags]
    command += [f"--worker={worker}", f"--directory={directory}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(config: Config) -> None:
    """Times both libraries in turn and prints the ratio."""
    if config.worker:
        timer = {"irl_jax": time_ours, "transformers": time_transformers}[config.worker]
        print(json.dumps(timer(config)))
        return
    libraries = ["irl_jax"]
    if all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        libraries.append("transformers")
    else:
        print('ours alone; for the comparison: pip install "irl_jax[parity]"')
    rates: dict[str, list[float]] = {name: [] for name in libraries}
    tokens = config.prompts * config.completions * config.new_tokens
    with tempfile.TemporaryDirectory() as scratch:
        directory = f"{scratch}/model"
        if len(libraries) > 1:
            save_huggingface(directory, *decoder(config.model))
        for _ in range(config.rounds):
            for name in libraries:
                rates[name] += [tokens / s for s in in_child(config, name, directory)]
    for name, values in rates.items():
        print(f"{name:14}{spread(values, 'tokens/s')}")
    if len(libraries) > 1:
        ours, theirs = (statistics.median(rates[name]) for name in libraries)
        print(f"ratio         {ours / theirs:.2f}")


if __name__ == "__main__":
    run_cli(main, CONFIG, description=__doc__)
