"""The settings of `experiments.credit_assignment`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.credit_assignment.arms import BRANCHING
from irl_jax.masking import check_range
from irl_jax.types import InputError


@dataclass(frozen=True)
class Config:
    """Ways to assign credit for a reward at the end, at equal steps of a corridor."""

    run_dir: Path = Path("runs/credit_assignment")  # directory of results; a run resumes there
    seeds: int = 20  # corridors of each kind, one policy each
    tuning: int = 8  # corridors on which learning rates are chosen, other ones
    steps: int = 20  # of a corridor
    doubtful: int = 4  # steps that do not matter, at which the policy begins as in a fork
    sure: float = 0.97  # probability of one action at all other steps, at the beginning
    budget: int = 60_000  # steps of a run, those of rollouts among them
    threshold: float = 0.9  # probability to be right in every fork that counts as learned
    rates: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0)  # of SGD, to choose from
    seed: int = 0  # of the corridors and the runs

    def __post_init__(self) -> None:
        check_range("seeds", self.seeds, 2)
        check_range("tuning", self.tuning, 1)
        check_range("doubtful", self.doubtful, 0)
        check_range("sure", self.sure, 0.0, 1.0, exclusive=True)
        check_range("threshold", self.threshold, 0.0, 1.0, exclusive=True)
        if not self.rates or min(self.rates) <= 0:
            raise InputError(f"rates: expected numbers above 0, got {list(self.rates)}")
        if self.steps % len(BRANCHING) or self.steps < 2 + self.doubtful:
            raise InputError(
                f"steps: expected a multiple of {len(BRANCHING)} from {2 + self.doubtful}, "
                f"got {self.steps}"
            )


CONFIG = Config()
