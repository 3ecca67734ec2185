"""The settings of `experiments.preference_to_policy`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from irl_jax.recipes.align_config import AlignConfig, PolicyLearning, PolicySettings
from irl_jax.recipes.commands import last_value
from irl_jax.recipes.options import find_loss, with_options
from irl_jax.recipes.reward_config import RewardConfig, RewardLearning
from irl_jax.recipes.run_config import Settings


@dataclass(frozen=True)
class Config(PolicySettings):
    """From preferences to a policy."""

    run_dir: Path = Path("runs/preference_to_policy")  # results; a run resumes there
    reward: RewardLearning = field(default_factory=RewardLearning)
    policy: PolicyLearning = field(default_factory=PolicyLearning)

    @property
    def of_reward(self) -> RewardConfig:
        """What `irl-jax reward` would be told."""
        shared = {each.name: getattr(self, each.name) for each in fields(Settings)}
        return RewardConfig(**shared, **vars(self.reward))

    @property
    def of_policy(self) -> AlignConfig:
        """What `irl-jax align` would be told; the reward is learned before."""
        shared = {each.name: getattr(self, each.name) for each in fields(PolicySettings)}
        return AlignConfig(**shared, **vars(self.policy))


CONFIG = Config()


def with_losses(config: Config, args: Sequence[str]) -> Config:
    """The configuration with the losses of a command line, and their hyper-parameters.

    Raises:
        InputError: there is no such loss.
    """
    for name in ("reward", "policy"):
        own = getattr(config, name)
        loss = last_value(args, f"{name}.loss") or own.loss
        if own.options is None or loss != own.loss:
            own = with_options(replace(own, loss=loss), find_loss(loss))
            config = replace(config, **{name: own})
    return config
