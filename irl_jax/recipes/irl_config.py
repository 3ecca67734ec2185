"""The settings of `irl-jax irl`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from irl_jax.masking import check_range
from irl_jax.recipes.align_config import PolicyLearning, PolicySettings
from irl_jax.recipes.run_config import Source


@dataclass(frozen=True)
class DiscriminatorLearning:
    """How a discriminator learns: a LoRA with a head, beside the policy's."""

    lr: float = 1e-4  # peak learning rate of Adam; 10 % warm-up, cosine decay to 0
    updates: int = 1  # on the completions of an update of the policy

    def __post_init__(self) -> None:
        check_range("discriminator.lr", self.lr, 0.0, exclusive=True)
        check_range("discriminator.updates", self.updates, 1)


@dataclass(frozen=True)
class IrlBasics(Source, PolicyLearning):
    """What most runs that learn from demonstrations by turns set."""

    GROUP: ClassVar[str] = ""

    loss: str = "gail"  # a name that `irl-jax losses` lists under irl
    beta: float = 0.05  # weight of the KL to the model where a discriminator rewards
    discriminator: DiscriminatorLearning = field(default_factory=DiscriminatorLearning)
    gold: str | None = None  # MODULE:FUNCTION of texts, to measure by; nothing learns from it


@dataclass(frozen=True)
class IrlConfig(PolicySettings, IrlBasics):
    """A reward from demonstrations, and a policy for it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("beta", self.beta, 0.0)
