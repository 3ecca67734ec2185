"""The settings of `experiments.gail_2016`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from irl_jax.masking import check_range
from irl_jax.recipes.cloning import CloningConfig
from irl_jax.recipes.control import PPOConfig
from irl_jax.types import InputError


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Settings of the discriminator; each task has its sign of the reward."""

    updates: int = 2  # after each unroll
    learning_rate: float = 3e-3
    penalty: float = 0.1  # weight of the gradient penalty
    widths: tuple[int, ...] = (32, 32)  # of the hidden layers


@dataclass(frozen=True)
class Config:
    """Imitation on classic control, beside what its authors measured."""

    data: Path | None = None  # directory of the authors' results and expert policies, see above
    run_dir: Path = Path("runs/gail_2016")  # directory of results; a run resumes there
    tasks: tuple[str, ...] = ("cartpole", "mountaincar", "acrobot")  # by the authors' names
    demonstrations: tuple[int, ...] = (1, 4, 7, 10)  # numbers of them, the first of the same ones
    seeds: int = 7  # of demonstrations and learners, at least 2
    episodes: int = 50  # in which a policy is measured
    seed: int = 0  # of all of them
    cloning: CloningConfig = field(default_factory=CloningConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    policy: PPOConfig = field(
        default_factory=lambda: PPOConfig(widths=(32, 32), learning_rate=2e-3, discount=0.9)
    )

    def __post_init__(self) -> None:
        check_range("seeds", self.seeds, 2)
        check_range("episodes", self.episodes, 1)
        if not self.demonstrations or min(self.demonstrations) < 1:
            raise InputError("demonstrations: expected one or more numbers, each at least 1")


CONFIG = Config()
