"""The settings of `experiments.adversarial_imitation`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from irl_jax.masking import check_range
from irl_jax.recipes.cloning import CloningConfig, DAggerConfig
from irl_jax.recipes.control import PPOConfig
from irl_jax.recipes.imitation import DiscriminatorConfig
from irl_jax.recipes.soft_q import OfflineConfig, SoftQConfig

WIDTHS = (32, 32)  # of the hidden layers of every network


@dataclass(frozen=True)
class Config:
    """Imitation of recorded experts in a fixed horizon, and what must fail."""

    data: Path | None = None  # directory of the experts' episodes, see above
    run_dir: Path = Path("runs/adversarial_imitation")  # directory of results; a run resumes there
    tasks: tuple[str, ...] = ("cartpole", "pendulum")
    seeds: int = 10  # of demonstrations and learners, at least 2
    control_seeds: int = 5  # of what must fail, the first of them; at least 2
    episodes: int = 50  # in which a policy is measured
    seed: int = 0  # of all of them
    alpha: float = 0.5  # of IQ-Learn's χ², units of the reward
    cloning: CloningConfig = field(default_factory=lambda: CloningConfig(snapshots=21))
    whole: CloningConfig = field(  # of all episodes, which makes whom DAgger asks
        default_factory=lambda: CloningConfig(snapshots=21, between=200, train_share=0.9)
    )
    dagger: DAggerConfig = field(
        default_factory=lambda: DAggerConfig(
            rounds=16,
            environments=1,
            unroll=201,
            widths=WIDTHS,  # an episode a round
        )
    )
    soft: SoftQConfig = field(
        default_factory=lambda: SoftQConfig(
            steps=12_000,
            environments=4,
            updates=8,
            capacity=12_000,
            discount=0.97,
            widths=WIDTHS,
        )
    )
    offline: OfflineConfig = field(
        default_factory=lambda: OfflineConfig(temperature=0.1, widths=WIDTHS)
    )
    discriminator: DiscriminatorConfig = field(
        default_factory=lambda: DiscriminatorConfig(updates=4, widths=WIDTHS)
    )
    policy: PPOConfig = field(
        default_factory=lambda: PPOConfig(
            steps=100_000,
            learning_rate=2e-3,
            discount=0.97,
            widths=WIDTHS,
        )
    )

    def __post_init__(self) -> None:
        check_range("control_seeds", self.control_seeds, 2)
        check_range("seeds", self.seeds, self.control_seeds)
        check_range("episodes", self.episodes, 1)
        check_range("alpha", self.alpha, 0.0, exclusive=True)


CONFIG = Config()
