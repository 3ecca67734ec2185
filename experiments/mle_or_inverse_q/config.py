"""The settings of `experiments.mle_or_inverse_q`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from experiments.sandbox.expert import ExpertConfig
from experiments.sandbox.runs import Measuring
from experiments.sandbox.task import SandboxConfig
from irl_jax.masking import check_range
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.policy_training import LoraConfig
from irl_jax.types import InputError


@dataclass(frozen=True)
class LearningConfig:
    """The updates of a policy of the sandbox, the same for every λ."""

    updates: int = 240  # from the reference on
    every: int = 8  # of them between looks at the validation, by which is stopped
    rows: int = 16  # demonstrations of an update
    lr: float = 1e-3  # of Adam

    def __post_init__(self) -> None:
        check_range("learning.every", self.every, 1)
        if self.updates < 1 or self.updates % self.every:
            raise InputError(
                f"learning.updates: expected a multiple of learning.every, {self.every}, got "
                f"{self.updates}"
            )


@dataclass(frozen=True)
class SolutionsConfig:
    """A language model that learns GSM8K's human solutions."""

    train: Path | None = None  # train.jsonl of GSM8K; None: this half is left out
    test: Path | None = None  # test.jsonl, only measured on
    model: str = "smollm2"  # smollm2, tiny, a GGUF file or a Hugging Face directory
    max_prompt: int = 128  # tokens of a prompt, template included; longer ones are left out
    max_new_tokens: int = 96  # tokens of a solution; longer human ones are left out
    row: int = 256  # tokens of a row, into which solutions are packed
    rows: int = 4  # rows of an update
    updates: int = 40  # of each λ
    lr: float = 5e-4  # peak learning rate of Adam, with 10 % warm-up and cosine decay to 0
    lora: LoraConfig = field(default_factory=lambda: LoraConfig(8, 16.0))
    lams: tuple[float, ...] = (0.0, 0.01, 0.1)  # λ; 0 is MLE
    temperatures: tuple[float, ...] = (0.5, 1.0)  # at which is sampled
    questions: int = 24  # first questions of the test file that are short enough
    completions: int = 4  # of each question and temperature
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self) -> None:
        if (self.train is None) != (self.test is None):
            raise InputError(
                "solutions: give both solutions.train and solutions.test, train.jsonl and "
                "test.jsonl of github.com/openai/grade-school-math"
            )
        if self.lams[:1] != (0.0,):
            raise InputError(f"solutions.lams: must begin with 0, which is MLE, got {self.lams}")
        check_range("solutions.completions", self.completions, 2)
        check_range("solutions.questions", self.questions, 2)


@dataclass(frozen=True)
class Config:
    """Likelihood against an inverse soft Q."""

    run_dir: Path = Path("runs/mle_or_inverse_q")  # directory of results; a run resumes there
    seeds: int = 8  # worlds, each with its expert
    first_seed: int = 0  # the first of them
    demonstrations: tuple[int, ...] = (32, 512)  # of prompts, one each
    lams: tuple[float, ...] = (0.0, 0.01, 0.1, 1.0)  # λ beside MLE's own loss; 0 is the control
    discount: float = 1.0  # γ
    temperatures: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25)  # at which is sampled
    equal: tuple[float, ...] = (0.5, 1.0)  # of them, where MLE's self-BLEU is the one compared at
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    expert: ExpertConfig = field(default_factory=ExpertConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    measuring: Measuring = field(default_factory=lambda: Measuring(prompts=32, completions=8))
    solutions: SolutionsConfig = field(default_factory=SolutionsConfig)

    def __post_init__(self) -> None:
        check_range("seeds", self.seeds, 2)
        check_range("discount", self.discount, 0.0, 1.0)
        check_range("measuring.completions", self.measuring.completions, 2)
        for count in self.demonstrations:
            check_range("demonstrations", count, 1)
        for name in ("lams", "temperatures"):
            values = getattr(self, name)
            if not values or list(values) != sorted(set(values)):
                raise InputError(f"{name}: expected numbers in ascending order, got {values}")
        for lam in self.lams:
            check_range("lams", lam, 0.0)
        for temperature in self.temperatures:
            check_range("temperatures", temperature, 0.0, exclusive=True)
        if not set(self.equal) <= set(self.temperatures):
            raise InputError(f"equal: expected some of temperatures, got {self.equal}")


CONFIG = Config()
