"""How `irl-jax score` reads prompts and responses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from irl_jax.masking import check_range


@dataclass(frozen=True)
class ReadConfig:
    """How a language model reads prompts and responses."""

    tokenizer: Path | None = None  # directory of another one; None: a run's own, or the model's
    label: str | None = None  # of several scores of a reward model's directory, the reward
    max_prompt: int | None = None  # tokens; None: a run's own, else half the context, at most 512
    max_completion: int | None = None  # tokens of a response, EOS included; None: likewise
    overlong: Literal["error", "truncate"] = "error"  # what becomes of a longer one
    chat: Literal["model", "dialogue"] | None = None  # template; None: a run's, or the model's
    batch_size: int = 16  # prompts at a time
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation

    def __post_init__(self) -> None:
        for name in ("max_prompt", "max_completion", "batch_size"):
            if getattr(self, name) is not None:
                check_range(f"read.{name}", getattr(self, name), 1)
