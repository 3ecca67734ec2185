"""How `irl-jax score` asks a language model to judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from irl_jax.masking import check_range
from irl_jax.rewards.reasoning_judge import check_scale
from irl_jax.rollout.sampling import Sampling
from irl_jax.types import InputError


@dataclass(frozen=True)
class JudgeConfig:
    """What a judge is asked, and how often."""

    asks: Literal["rating", "pair", "letter"] = "rating"  # letter: a pair, without a critique
    template: Path | None = None  # text of what is asked, with fields such as {request}
    samples: int = 4  # critiques of a response, or of a pair in either order; letter: none
    temperature: float = 0.7  # divides the logits of a critique; 0: the most likely token
    max_new_tokens: int = 256  # of a critique, its verdict included
    lowest: float = 1.0  # rating: end of the scale
    highest: float = 10.0  # rating: the other end

    def __post_init__(self) -> None:
        for name in ("samples", "max_new_tokens"):
            check_range(f"judge.{name}", getattr(self, name), 1)
        try:
            check_scale(self.lowest, self.highest)
            Sampling(self.temperature)
        except InputError as error:
            raise InputError(f"judge.{error}") from error
        if self.temperature == 0 and self.samples > 1:
            raise InputError("judge.samples: at temperature 0 all are one; give 1")
