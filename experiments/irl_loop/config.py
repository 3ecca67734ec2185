"""The settings of `experiments.irl_loop`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from experiments.irl_loop.methods import METHODS
from experiments.sandbox.expert import ExpertConfig
from experiments.sandbox.runs import Measuring
from experiments.sandbox.task import SandboxConfig
from irl_jax.masking import check_range
from irl_jax.types import InputError


@dataclass(frozen=True)
class LearningConfig:
    """The updates of a run, the same for every method."""

    updates: int = 120  # of the policy, of its discriminator, or of both
    every: int = 40  # updates between measurements; divides `updates`
    prompts: int = 16  # demonstrations of an update
    completions: int = 4  # the policy's, of each of their prompts
    lr: float = 1e-3  # of Adam, for policies that learn from the demonstrations themselves
    rewarded_lr: float = 2e-3  # for those that are rewarded
    discriminator_lr: float = 3e-3  # for discriminators
    beta: float = 0.03  # weight of the KL to the reference for policies that are rewarded

    def __post_init__(self) -> None:
        check_range("learning.completions", self.completions, 2)
        if self.updates % self.every:
            raise InputError("learning.updates: must be a multiple of learning.every")


@dataclass(frozen=True)
class HardConfig:
    """How hard a recovered reward is optimised by a policy that starts from the reference."""

    updates: int = 120  # updates by RLOO on the reward alone, without a pull to the reference
    every: int = 20  # updates between measurements; divides `updates`
    prompts: int = 8  # prompts of an update
    completions: int = 8  # of each prompt
    lr: float = 2e-3  # of Adam

    def __post_init__(self) -> None:
        if self.updates % self.every:
            raise InputError("hard.updates: must be a multiple of hard.every")


@dataclass(frozen=True)
class Config:
    """The loop of inverse RL on a language whose reward is known."""

    run_dir: Path = Path("runs/irl_loop")  # directory of results; a run resumes there
    methods: tuple[str, ...] = tuple(METHODS)  # names in METHODS
    demonstrations: tuple[int, ...] = (32, 512)  # of prompts, one each
    seeds: int = 6  # worlds, each with its expert
    first_seed: int = 0  # the first of them
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    expert: ExpertConfig = field(default_factory=ExpertConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    hard: HardConfig = field(default_factory=HardConfig)
    measuring: Measuring = field(default_factory=Measuring)

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown or not self.methods:
            raise InputError(f"methods: {unknown or 'none'}; have {', '.join(METHODS)}")
        check_range("seeds", self.seeds, 2)
        for count in self.demonstrations:
            check_range("demonstrations", count, 1)


CONFIG = Config()
