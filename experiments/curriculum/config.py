"""The settings of `experiments.curriculum`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irl_jax.masking import check_range
from irl_jax.types import InputError


@dataclass(frozen=True)
class Config:
    """Which questions a model practises, at equal numbers of solutions."""

    run_dir: Path = Path("runs/curriculum")  # directory of results; a run resumes there
    seeds: int = 8  # models, each with questions of its own
    terms: tuple[int, ...] = (2, 3, 4)  # numbers in a question, of each level, easiest first
    lessons: tuple[int, ...] = (64, 64, 64)  # worked solutions of each level that are shown
    questions: int = 48  # of each level, that are practised
    width: int = 32  # of the model
    layers: int = 2  # of the model
    shown: int = 300  # updates on the worked solutions
    shown_batch: int = 64  # worked solutions of an update
    prompts: int = 24  # questions of a batch
    completions: int = 8  # solutions of each
    batches: int = 150  # that are drawn
    lr: float = 1e-3  # peak learning rate of GRPO
    low: float = 0.1  # least share of right solutions that the filter keeps
    high: float = 0.9  # largest share that it keeps
    rate: float = 0.5  # α of the bandit's moving mean
    temperature: float = 0.2  # τ of the bandit, in advantages
    stages: int = 5  # of the reverse curriculum
    attempts: int = 16  # at each question, by which a model is judged
    seed: int = 0  # of the first model

    def __post_init__(self) -> None:
        check_range("seeds", self.seeds, 2)
        check_range("completions", self.completions, 2)
        check_range("batches", self.batches, 2)
        check_range("stages", self.stages, 1, self.batches)
        for name in ("prompts", "attempts", "shown_batch"):
            check_range(name, getattr(self, name), 1)
        check_range("questions", self.questions, 2 * self.prompts)  # the filter's batch
        if len(self.terms) < 2 or list(self.terms) != sorted({*self.terms}) or self.terms[0] < 2:
            raise InputError(f"terms: expected rising numbers from 2, got {list(self.terms)}")
        if len(self.lessons) != len(self.terms) or min(self.lessons) < 0:
            raise InputError(
                f"lessons: expected a number for each of {len(self.terms)} levels, "
                f"got {list(self.lessons)}"
            )
        if sum(self.lessons) < self.shown_batch:
            raise InputError(
                f"shown_batch: {self.shown_batch} is more than all lessons, {sum(self.lessons)}"
            )
        check_range("low", self.low, 0.0, 1.0)
        check_range("high", self.high, self.low, 1.0)
        check_range("rate", self.rate, 0.0, 1.0, exclusive=True)
        check_range("temperature", self.temperature, 0.0, exclusive=True)


CONFIG = Config()
