"""The settings of `experiments.self_play`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from irl_jax.masking import check_range
from irl_jax.recipes.self_play import SelfPlayConfig
from irl_jax.types import InputError


@dataclass(frozen=True)
class Config:
    """Kuhn poker played by one policy against itself."""

    run_dir: Path = Path("runs/self_play")  # directory of results; a run resumes there
    seeds: int = 10  # runs of each kind
    handicap: float = 2.0  # what the second player pays the first for each game, where it does
    bound: float = 0.02  # exploitability that a run is to end below
    learning: SelfPlayConfig = field(
        default_factory=lambda: SelfPlayConfig(
            updates=8_000, games=256, learning_rate=1.0, beta=0.3, refresh=800, snapshots=40
        )
    )
    decoder: SelfPlayConfig = field(  # by a decoder and Adam
        default_factory=lambda: SelfPlayConfig(
            updates=8_000, games=256, learning_rate=0.003, beta=0.3, refresh=800, snapshots=40
        )
    )
    width: int = 16  # of the decoder
    exact: SelfPlayConfig = field(  # by gradients without sampling
        default_factory=lambda: SelfPlayConfig(
            updates=8_000, learning_rate=3.0, beta=0.3, refresh=200, snapshots=40
        )
    )
    seed: int = 0  # of the runs

    def __post_init__(self) -> None:
        check_range("seeds", self.seeds, 2)
        check_range("width", self.width, 4)
        if self.width % 4:
            raise InputError(f"width: expected a multiple of 4, got {self.width}")
        check_range("bound", self.bound, 0.0)
        check_range("learning.beta", self.learning.beta, 0.0, exclusive=True)
        check_range("decoder.beta", self.decoder.beta, 0.0, exclusive=True)
        check_range("exact.beta", self.exact.beta, 0.0, exclusive=True)


CONFIG = Config()
