"""The settings of `experiments.gridworld_irl`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irl_jax.masking import check_range
from irl_jax.types import InputError


@dataclass(frozen=True)
class Config:
    """Rewards of cells, recovered from demonstrations in grids."""

    run_dir: Path = Path("runs/gridworld_irl")  # directory of results; a run resumes there
    worlds: int = 20  # rewards drawn, each demonstrated on its own
    rows: int = 5  # of a grid
    columns: int = 5  # of a grid
    slip: float = 0.2  # probability that a move goes in a random direction
    discount: float = 0.9  # γ of the demonstrator and of the planner
    deviation: float = 1.0  # of the rewards of cells and of their prior, nats
    steps: int = 20  # actions of a demonstration
    demonstrations: tuple[int, ...] = (10, 100, 1000, 10000)  # sizes, the first of the same ones
    walls: int = 5  # cells that cannot be entered in one of the changed worlds
    pseudo_count: float = 0.5  # added to each count of actions, where they are counted
    seed: int = 0  # of the worlds and the demonstrations

    def __post_init__(self) -> None:
        check_range("worlds", self.worlds, 2)
        check_range("deviation", self.deviation, 0.0, exclusive=True)
        check_range("steps", self.steps, 1)
        check_range("pseudo_count", self.pseudo_count, 0.0, exclusive=True)
        if not self.demonstrations or min(self.demonstrations) < 1:
            raise InputError("demonstrations: expected one or more sizes, each at least 1")
        if not 0 <= self.walls < self.rows * self.columns:
            raise InputError(
                f"walls: expected fewer than the {self.rows * self.columns} cells of the grid"
            )


CONFIG = Config()
