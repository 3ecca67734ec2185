"""The settings of `experiments.stale_samples`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irl_jax.masking import check_range
from irl_jax.types import InputError


@dataclass(frozen=True)
class Config:
    """A policy learns from samples of the policy that it was some updates ago."""

    run_dir: Path = Path("runs/stale_samples")  # directory of results; a run resumes there
    seeds: int = 8  # models, each with questions of its own
    lags: tuple[int, ...] = (32,)  # updates by which the samples are old
    lessons: int = 64  # worked solutions that a model was shown, and a batch of them
    practised: int = 96  # questions that are practised
    width: int = 32  # of the model
    layers: int = 2  # of the model
    shown: int = 120  # updates on the worked solutions
    prompts: int = 32  # questions of a batch
    completions: int = 8  # solutions of each
    batches: int = 200  # each with one update
    lr: float = 1e-3  # peak learning rate
    clip: float = 0.2  # ε of the clipped ratios
    cap: float = 2.0  # C of the truncated weights, and β of the masked ones
    low: float = 0.5  # α of the masked weights of tokens
    limit: float = 0.1  # δ of the staleness mask, nats a token
    attempts: int = 16  # at each question, by which a model is judged
    seed: int = 0  # of the first model

    def __post_init__(self) -> None:
        check_range("seeds", self.seeds, 2)
        check_range("shown", self.shown, 10)
        for name in ("lessons", "prompts", "attempts", "batches"):
            check_range(name, getattr(self, name), 1)
        check_range("practised", self.practised, self.prompts)
        check_range("completions", self.completions, 2)
        if not self.lags or min(self.lags) < 1:
            raise InputError(f"lags: expected numbers from 1, got {list(self.lags)}")
        if self.width % 8 or self.width < 8:
            raise InputError(f"width: a multiple of 8, got {self.width}")
        check_range("cap", self.cap, self.low, exclusive=True)


CONFIG = Config()
