"""The settings of `experiments.f_divergences`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irl_jax.masking import check_range
from irl_jax.types import InputError


@dataclass(frozen=True)
class Config:
    """Experts of two minds in grids, imitated by minimising f-divergences exactly."""

    run_dir: Path = Path("runs/f_divergences")  # directory of results; a run resumes there
    worlds: int = 20  # grids and experts drawn
    rows: int = 5  # of a grid
    columns: int = 5  # of a grid
    walls: int = 3  # cells away from the border that cannot be entered
    slip: float = 0.1  # probability that a move goes in a random direction
    discount: float = 0.9  # γ of the occupancies, of the experts and of the planner
    temperature: float = 0.2  # of each expert, in shares of the reward of its corner
    lightest: float = 0.2  # least share of episodes of the rarer expert
    heaviest: float = 0.45  # largest share of it
    support: float = 0.9  # share of the expert's visits in the cells called its support
    limit: float = 10.0  # of each parameter, nats; beyond it policies are all but deterministic
    searches: int = 48  # starting points, divided by the number of parameters; at least three
    deviation: float = 2.0  # of the parameters at a starting point; the first is 0
    seed: int = 0  # of the worlds and the starting points

    def __post_init__(self) -> None:
        check_range("worlds", self.worlds, 2)
        check_range("rows", self.rows, 2)
        check_range("columns", self.columns, 2)
        check_range("temperature", self.temperature, 0.0, exclusive=True)
        check_range("lightest", self.lightest, 0.0, 0.5, exclusive=True)
        check_range("heaviest", self.heaviest, self.lightest, 0.5)
        check_range("support", self.support, 0.0, 1.0, exclusive=True)
        check_range("limit", self.limit, 0.0, exclusive=True)
        check_range("searches", self.searches, 1)
        inner = (self.rows - 2) * (self.columns - 2)
        if not 0 <= self.walls < max(inner, 1):
            raise InputError(f"walls: expected fewer than the {inner} cells away from the border")


CONFIG = Config()
