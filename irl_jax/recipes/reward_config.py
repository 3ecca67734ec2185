"""The settings of `irl-jax reward`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from irl_jax.masking import check_range
from irl_jax.recipes.run_config import Learning, Settings
from irl_jax.types import InputError


@dataclass(frozen=True)
class MembersConfig:
    """How many reward models there are, and how they come to one reward."""

    members: int = 1  # LoRAs with heads, each from a start of its own, all on the same batches
    aggregate: Literal["mean", "lower_bound", "worst_case"] = "mean"  # one reward of the members'
    deviations: float = 1.0  # of the members, by which lower_bound is below their mean

    def __post_init__(self) -> None:
        check_range("ensemble.members", self.members, 1)
        check_range("ensemble.deviations", self.deviations, 0.0)
        if self.aggregate != "mean" and self.members == 1:
            raise InputError(
                f"ensemble.aggregate: {self.aggregate} is of several members; give "
                "ensemble.members 2 or more"
            )


@dataclass(frozen=True)
class RewardLearning(Learning):
    """How a reward model learns a loss."""

    GROUP: ClassVar[str] = "reward."

    loss: str = "bradley_terry"  # a name that `irl-jax losses` lists, MODULE:FUNCTION, FILE.py:…
    ensemble: MembersConfig = field(default_factory=MembersConfig)


@dataclass(frozen=True)
class RewardConfig(Settings, RewardLearning):
    """A reward model by any published loss: a language model with a head."""

    GROUP: ClassVar[str] = ""

    export: Literal["merged", "adapter"] = "merged"  # a LoRA in the weights, or alone for PEFT
    export_dtype: Literal["float32", "bfloat16"] = "float32"  # of the exported weights
