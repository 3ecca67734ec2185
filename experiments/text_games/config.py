"""The settings of `experiments.text_games`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irl_jax.masking import check_range
from irl_jax.types import InputError


@dataclass(frozen=True)
class Config:
    """A small decoder learns a guessing game in words, by advantages of episodes and of turns."""

    run_dir: Path = Path("runs/text_games")  # directory of results; a run resumes there
    seeds: int = 10  # runs of each kind
    largest: int = 7  # number that may be hidden, from 1 on; each is, in every update
    cost: float = 0.1  # of a guess; the right one earns 1
    turns: int = 5  # guesses after which an episode is cut
    episodes: int = 8  # of each hidden number in an update
    updates: int = 600
    learning_rate: float = 0.001  # of Adam
    width: int = 32  # of the decoder
    layers: int = 2  # of the decoder
    parts: int = 20  # of a run, whose episodes are averaged
    seed: int = 0  # of the runs

    def __post_init__(self) -> None:
        check_range("seeds", self.seeds, 2)
        check_range("largest", self.largest, 2)
        check_range("cost", self.cost, 0.0)
        check_range("turns", self.turns, 1)
        check_range("episodes", self.episodes, 2)
        check_range("learning_rate", self.learning_rate, 0.0, exclusive=True)
        check_range("layers", self.layers, 1)
        check_range("parts", self.parts, 1)
        if self.width < 4 or self.width % 4:
            raise InputError(f"width: expected a multiple of 4, got {self.width}")
        if self.updates < 1 or self.updates % self.parts:
            raise InputError(
                f"updates: expected a multiple of parts, {self.parts}, got {self.updates}"
            )


CONFIG = Config()
