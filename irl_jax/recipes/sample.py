"""`irl-jax sample`: what a model answers, on the terminal or as JSON Lines.

`--model` is what `irl-jax align` takes, or the directory of one of its runs, whose export is
sampled.

Examples:
    irl-jax sample --model runs/simpo --prompt "Describe a rainy Monday." --completions 4

    irl-jax sample --model DIR --data prompts.jsonl --out answers.jsonl
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import jax

from irl_jax.data.encode import EncodedPrompt
from irl_jax.data.jsonl import PromptRecord, read_prompts
from irl_jax.files import write_atomic, writing
from irl_jax.masking import check_range
from irl_jax.models.mesh import make_mesh
from irl_jax.recipes.distributed import check_one_process
from irl_jax.recipes.examples import as_text
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.launch import given_model
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import LanguageModel, Session, width_of
from irl_jax.train.progress import Progress
from irl_jax.types import InputError


@dataclass(frozen=True)
class SampleCommand:
    """Prompts, and how they are answered."""

    model: str = "smollm2"  # smollm2, a GGUF file, a directory, hf://OWNER/NAME, or a run
    prompt: tuple[str, ...] = ()  # what is asked, as a user's message
    data: Path | None = None  # JSONL (.gz) or Parquet of prompts, in place of --prompt
    out: Path | None = None  # JSON Lines of prompts and completions; None: the terminal
    completions: int = 1  # of each prompt
    temperature: float = 1.0  # divides the logits; 0: the most likely token
    top_k: int = 0  # of the likeliest tokens; 0: all
    top_p: float = 1.0  # of the probability, in the likeliest tokens
    max_new_tokens: int = 128  # of a completion, at most; fewer where the context ends
    seed: int = 0  # of everything random
    batch_size: int = 8  # prompts at a time
    tokenizer: Path | None = None  # directory of another tokenizer; None: the model's own
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation

    def __post_init__(self) -> None:
        for name in ("completions", "max_new_tokens", "batch_size"):
            check_range(name, getattr(self, name), 1)
        Sampling(self.temperature, self.top_k, self.top_p)


CONFIG = SampleCommand()


def main(config: SampleCommand) -> None:
    """Answers prompts.

    Raises:
        InputError: no prompt, no such model, prompts that do not fit its context, or several
            processes.
    """
    check_one_process("irl-jax sample")
    records = read(config)
    with Progress() as progress:
        model = load(config, progress)
        context = model.config.max_positions
        prompts = model.encoder(max_prompt=sys.maxsize, max_completion=1).prompts(records)
        longest = max(prompts, key=lambda item: len(item.prompt))
        room = context - len(longest.prompt)
        if room < 1:
            raise InputError(
                f"{longest.record.source}: the prompt has {len(longest.prompt)} tokens, which "
                f"leaves no room in the model's context of {context}; shorten it"
            )
        config = replace(config, max_new_tokens=min(config.max_new_tokens, room))
        answers = sample(config, model, prompts, progress)
    write(config, records, answers)


def read(config: SampleCommand) -> list[PromptRecord]:
    """What is asked.

    Raises:
        InputError: nothing, or two sources of it.
    """
    if bool(config.prompt) == (config.data is not None):
        raise InputError('prompt: give --prompt "..." or --data prompts.jsonl')
    if config.data is not None:
        return list(read_prompts(config.data))
    return [PromptRecord(text, {}, f"prompt:{i}") for i, text in enumerate(config.prompt, start=1)]


def load(config: SampleCommand, progress: Progress) -> LanguageModel:
    """The model; of a run, what it exported.

    Raises:
        InputError: there is no such model, or the run is not finished.
    """
    name = config.model
    if (Path(name) / "config.json").is_file() and (Path(name) / "metrics.jsonl").is_file():
        export = Path(name) / "export"
        if not export.is_dir():
            raise InputError(f"model: {name}: this run has no export; finish it, or give a model")
        name = str(export)
    if given_model(name) is None:
        raise InputError(f"model: {name} is made by a run and belongs to it; give the run")
    return load_language_model(
        name, Path(), seed=config.seed, dtype=config.dtype, progress=progress,
        tokenizer=config.tokenizer,
    )  # fmt: skip


def sample(
    config: SampleCommand,
    model: LanguageModel,
    prompts: Sequence[EncodedPrompt],
    progress: Progress,
) -> list[list[str]]:
    """The completions of each prompt as text."""
    session = Session.create(
        model,
        make_mesh(1),
        prompt_width=width_of(prompts),
        max_new_tokens=config.max_new_tokens,
        sampling=Sampling(config.temperature, config.top_k, config.top_p),
    )
    found = session.respond(
        session.model.params,
        prompts,
        jax.random.key(config.seed),
        completions=config.completions,
        batch_size=min(config.batch_size, len(prompts)),
        advance=progress.stage("prompts", len(prompts)),
        reference=False,
    )
    return found.text


def write(
    config: SampleCommand, records: Sequence[PromptRecord], answers: Sequence[Sequence[str]]
) -> None:
    """Writes the answers to the file, or prints them below their prompts."""
    if config.out is None:
        for record, own in zip(records, answers, strict=True):
            print(f"\n> {as_text(record.prompt)}")
            for text in own:
                print(text)
        return
    rows = [
        {"prompt": record.prompt, "completions": list(own), **record.fields}
        for record, own in zip(records, answers, strict=True)
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with writing(config.out):
        write_atomic(config.out, lines.encode())
    print(f"wrote {config.out}")
