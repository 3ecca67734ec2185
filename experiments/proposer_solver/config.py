"""The settings of `experiments.proposer_solver`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irl_jax.masking import check_range
from irl_jax.types import InputError


@dataclass(frozen=True)
class Config:
    """A solver that practises what a proposer writes."""

    run_dir: Path = Path("runs/proposer_solver")  # directory of results; a run resumes there
    seeds: int = 8  # models, each with sums of its own
    first_seed: int = 0  # the first of them
    terms: tuple[int, ...] = (2, 3)  # numbers in a sum, of each level
    lessons: int = 64  # sums of each level that are shown, with their solutions
    held_out: int = 48  # sums of each level that judge
    width: int = 32  # of the model
    layers: int = 2  # of the model
    shown: int = 300  # updates on the lessons
    shown_batch: int = 64  # lessons of an update
    prompts: int = 16  # sums of a batch
    completions: int = 8  # solutions of each
    batches: int = 80  # that are practised
    lr: float = 1e-3  # peak learning rate of the solver's GRPO
    proposer_lr: float = 1e-3  # of the proposer's
    attempts: int = 16  # at each held-out sum, by which a model is judged

    def __post_init__(self) -> None:
        check_range("seeds", self.seeds, 2)
        check_range("prompts", self.prompts, 2)
        check_range("completions", self.completions, 2)
        for name in ("lessons", "held_out", "shown_batch", "batches", "attempts"):
            check_range(name, getattr(self, name), 1)
        if not self.terms or list(self.terms) != sorted({*self.terms}) or self.terms[0] < 2:
            raise InputError(f"terms: expected rising numbers from 2, got {list(self.terms)}")
        if 2 * self.lessons * len(self.terms) < self.shown_batch:
            raise InputError(
                f"shown_batch: {self.shown_batch} is more than all lessons, "
                f"{2 * self.lessons * len(self.terms)}"
            )


CONFIG = Config()
