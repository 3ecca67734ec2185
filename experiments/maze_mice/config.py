"""The settings of `experiments.maze_mice`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from irl_jax.masking import check_range


@dataclass(frozen=True)
class FitConfig:
    """How rewards are fitted: the most probable ones, by Adam on all bouts at once."""

    discount: float = 0.95  # γ of the planner; a bout ends outside
    deviation: float = 1.0  # of the normal prior of each reward, nats
    steps: int = 200  # updates
    lr: float = 0.1  # peak learning rate; cosine decay to 0
    starts: int = 4  # of which the best is kept, where there are several intentions

    def __post_init__(self) -> None:
        check_range("fit.discount", self.discount, 0.0, 1.0)
        check_range("fit.deviation", self.deviation, 0.0, exclusive=True)
        check_range("fit.steps", self.steps, 1)
        check_range("fit.lr", self.lr, 0.0, exclusive=True)
        check_range("fit.starts", self.starts, 1)


@dataclass(frozen=True)
class Config:
    """Rewards of places in a labyrinth."""

    data: Path | None = None  # .npz of the sessions, see above
    run_dir: Path = Path("runs/maze_mice")  # directory of results; a run resumes there
    with_water: str = "D9a"  # session with water
    without_water: str = "D9b"  # session without
    port: int = 116  # node of the water
    folds: int = 8  # parts of a session's bouts; each is predicted from the others
    pseudo_count: float = 0.5  # added to each count of turns, where turns are counted
    resamples: int = 100  # of the bouts, for intervals of rewards
    permutations: int = 100  # of the bouts between the sessions, the control
    seed: int = 0  # of folds, resamples and permutations
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        check_range("folds", self.folds, 2)
        check_range("pseudo_count", self.pseudo_count, 0.0, exclusive=True)
        check_range("resamples", self.resamples, 2)
        check_range("permutations", self.permutations, 2)


CONFIG = Config()
