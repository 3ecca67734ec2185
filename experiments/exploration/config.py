"""The settings of `experiments.exploration`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irl_jax.masking import check_range
from irl_jax.types import InputError


@dataclass(frozen=True)
class Config:
    """DeepSea by Q-learning, with and without bonuses for what is new."""

    run_dir: Path = Path("runs/exploration")  # directory of results; a run resumes there
    seeds: int = 10  # runs of each kind, each in a sea of its own
    sizes: tuple[int, ...] = (10, 20, 30)  # of the sea, cells each way
    episodes: int = 10_000  # of a run
    window: int = 50  # episodes, nine of ten of which find the treasure when it is solved
    dithering: float = 0.1  # ε
    scale: float = 0.1  # β of bonuses; the treasure is worth 1
    seed: int = 0  # of the seas and the runs

    def __post_init__(self) -> None:
        check_range("seeds", self.seeds, 2)
        check_range("window", self.window, 1, self.episodes)
        check_range("dithering", self.dithering, 0.0, 1.0)
        check_range("scale", self.scale, 0.0, exclusive=True)
        if not self.sizes or min(self.sizes) < 1:
            raise InputError(f"sizes: expected numbers from 1, got {list(self.sizes)}")


CONFIG = Config()
