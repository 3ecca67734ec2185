"""The settings of `irl-jax align` and `irl-jax sft`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from irl_jax.masking import check_range
from irl_jax.recipes.run_config import Learning, Settings, Source


@dataclass(frozen=True)
class SampleConfig:
    """How completions are sampled, in training and for measuring."""

    temperature: float = 1.0  # divides the logits
    max_new_tokens: int | None = None  # tokens; None: the longest completion of the data

    def __post_init__(self) -> None:
        check_range("sample.temperature", self.temperature, 0.0, exclusive=True)
        if self.max_new_tokens is not None:
            check_range("sample.max_new_tokens", self.max_new_tokens, 1)


@dataclass(frozen=True)
class PolicyLearning(Learning):
    """How a policy learns a loss."""

    GROUP: ClassVar[str] = "policy."

    train: Literal["lora", "full"] = "lora"  # a LoRA, or every weight
    completions: int = 8  # of each prompt, where the loss learns from samples

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(f"{self.GROUP}completions", self.completions, 1)


@dataclass(frozen=True)
class PolicyBasics(Source, PolicyLearning):
    """What most runs that train a policy set."""

    GROUP: ClassVar[str] = ""

    reward: str | None = None  # MODULE:FUNCTION of texts, a run or directory of a reward model


@dataclass(frozen=True)
class PolicySettings(Settings):
    """What every run that ends with a policy sets."""

    export: Literal["merged", "adapter"] = "merged"  # a LoRA in the weights, or alone for PEFT
    export_dtype: Literal["float32", "bfloat16"] = "float32"  # of the exported weights
    sample: SampleConfig = field(default_factory=SampleConfig)


@dataclass(frozen=True)
class AlignConfig(PolicySettings, PolicyBasics):
    """A policy by any published loss, or by one of your own."""

    teacher: str | None = None  # a model as --model names it, of a loss that learns from one
