"""The settings of `experiments.process_rewards`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from experiments.process_rewards.judges import JudgeConfig
from irl_jax.rollout.sampling import Sampling
from irl_jax.types import InputError


@dataclass(frozen=True)
class TaskConfig:
    """The sums, and who works them out."""

    terms: int = 3  # numbers in an expression
    digits: int = 1  # digits of each number, at most
    lessons: int = 20_000  # worked solutions that the policy learns from
    width: int = 64  # width of the policy's residual stream
    layers: int = 2  # layers of the policy
    steps: int = 300  # updates of the policy
    batch_size: int = 64  # lessons an update
    lr: float = 5e-3  # peak learning rate of the policy


@dataclass(frozen=True)
class Config:
    """Judges of steps and of outcomes, and best-of-n by each."""

    run_dir: Path = Path("runs/process_rewards")  # directory of results; a run resumes there
    seeds: int = 3  # policies, each with questions and judges of its own
    questions: int = 1024  # questions that judges learn from
    solutions: int = 8  # solutions of each of these questions
    rollouts: int = 4  # completions from the end of each step, to label it
    held_out: int = 256  # questions that judges are tested on
    candidates: int = 16  # solutions to choose from, of each held-out question
    task: TaskConfig = field(default_factory=TaskConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.7))

    def __post_init__(self) -> None:
        for name in ("seeds", "questions", "solutions", "rollouts", "candidates"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if self.held_out < 2:
            raise InputError(f"held_out: an interval needs 2 questions, got {self.held_out}")


CONFIG = Config()
