"""The settings of `experiments.f_divergences`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from irl_jax.masking import check_range
from irl_jax.recipes.control import PPOConfig
from irl_jax.recipes.imitation import DiscriminatorConfig
from irl_jax.types import InputError


@dataclass(frozen=True)
class ControlConfig:
    """A pole on a cart, whose expert goes to one of two places."""

    seeds: int = 10  # of demonstrations and learners, at least 2
    place: float = 0.6  # to the right and to the left, m
    light: float = 0.4  # share of the demonstrations that go to the left
    horizon: int = 200  # steps of every episode
    episodes: int = 20  # demonstrations
    measured: int = 64  # episodes in which a policy is measured
    discriminator: DiscriminatorConfig = field(
        default_factory=lambda: DiscriminatorConfig(
            updates=4, rows=256, learning_rate=3e-3, penalty=0.1, widths=(32, 32)
        )
    )
    policy: PPOConfig = field(
        default_factory=lambda: PPOConfig(
            steps=300_000,
            learning_rate=2e-3,
            discount=0.98,
            widths=(32, 32),
            critic_widths=(32, 32),
        )
    )  # of the learners with networks; the policies of the others have no hidden layers

    def __post_init__(self) -> None:
        check_range("control.seeds", self.seeds, 2)
        check_range("control.place", self.place, 0.0, exclusive=True)
        check_range("control.light", self.light, 0.0, 0.5, exclusive=True)
        check_range("control.episodes", self.episodes, 2)
        check_range("control.measured", self.measured, 1)


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
    seed: int = 0  # of the worlds, the starting points and the learners of control
    control: ControlConfig = field(default_factory=ControlConfig)

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
