"""The settings of `experiments.r1_zero`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from experiments.r1_zero.tasks import WRITTEN
from experiments.r1_zero.variants import ABLATION, VARIANTS
from irl_jax.types import InputError


@dataclass(frozen=True)
class PolicyConfig:
    """The policy before reinforcement learning."""

    lessons: int = 800  # worked solutions that it is shown
    width: int = 64  # width of the residual stream
    layers: int = 2  # layers of the decoder
    steps: int = 300  # updates
    batch_size: int = 64  # lessons an update
    lr: float = 5e-3  # peak learning rate


@dataclass(frozen=True)
class OnlineConfig:
    """Reinforcement learning; the same for every variant."""

    rollouts: int = 96  # batches of completions that a variant may draw
    prompts: int = 64  # prompts in a batch
    completions: int = 16  # completions of each prompt
    minibatches: int = 4  # updates on a batch
    lr: float = 5e-4  # peak learning rate of Adam; 10 % warm-up, cosine decay to 0
    accuracy: float = 1.0  # weight of a right answer
    format: float = 0.1  # weight of the form of the solution


@dataclass(frozen=True)
class Config:
    """Reinforcement learning from verifiable rewards."""

    run_dir: Path = Path("runs/r1_zero")  # directory of results; a run resumes there
    seeds: int = 3  # policies, each with questions of its own
    chain_sum: tuple[str, ...] = ABLATION  # variants that run on chain_sum
    countdown: tuple[str, ...] = ("grpo", "dapo")  # variants that run on countdown
    drawn: int = 4000  # questions drawn for a seed; equal ones are taken once
    held_out: int = 128  # questions that policies are tested on
    attempts: int = 32  # attempts at each of these questions
    ks: tuple[int, ...] = (1, 2, 4, 8, 16)  # values of k in pass@k
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)

    def __post_init__(self) -> None:
        for task in WRITTEN:
            for name in getattr(self, task):
                if name not in VARIANTS:
                    raise InputError(f"{task}: no variant {name!r}; have {', '.join(VARIANTS)}")
        if not any(getattr(self, task) for task in WRITTEN):
            raise InputError("chain_sum, countdown: name a variant for one of them")
        if self.held_out < 2:
            raise InputError(f"held_out: an interval needs 2 questions, got {self.held_out}")
        if not self.ks or not 1 <= min(self.ks) <= max(self.ks) <= self.attempts:
            raise InputError(f"ks: expected numbers from 1 to attempts = {self.attempts}")


CONFIG = Config()
