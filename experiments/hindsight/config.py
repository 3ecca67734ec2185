"""The settings of `experiments.hindsight`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from irl_jax.masking import check_range
from irl_jax.recipes.soft_q import SoftQConfig
from irl_jax.types import InputError


@dataclass(frozen=True)
class Config:
    """Bits to flip to a goal, by a soft Q with and without hindsight."""

    run_dir: Path = Path("runs/hindsight")  # directory of results; a run resumes there
    seeds: int = 10  # runs of each kind
    bits: tuple[int, ...] = (6, 12)  # of the goals, and steps of an episode
    episodes: int = 256  # by which a policy is judged at the end
    copies: int = 4  # relabelled transitions of each one, where the goal is drawn
    learning: SoftQConfig = field(
        default_factory=lambda: SoftQConfig(
            steps=24_000,
            environments=16,
            unroll=30,
            updates=30,
            batch_size=64,
            capacity=20_000,
            discount=0.98,
            target_rate=0.05,
        )
    )
    seed: int = 0  # of the runs

    def __post_init__(self) -> None:
        check_range("seeds", self.seeds, 2)
        check_range("episodes", self.episodes, 1)
        check_range("copies", self.copies, 1)
        check_range("rounds of learning", self.learning.rounds, 1)
        if not self.bits or not 0 < min(self.bits) <= max(self.bits) <= self.learning.unroll:
            raise InputError(
                f"bits: expected numbers from 1 to the unroll, {self.learning.unroll}, "
                f"got {list(self.bits)}"
            )


CONFIG = Config()
