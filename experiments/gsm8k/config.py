"""The settings of `experiments.gsm8k`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jax import Array

from experiments.gsm8k.tasks import DataConfig, EvaluationConfig, RewardConfig
from irl_jax.dynamics.advantages import group_advantages, leave_one_out
from irl_jax.losses.policy import cispo, dapo, dr_grpo, grpo, gspo, reinforce
from irl_jax.masking import check_range
from irl_jax.models.decoder_config import Remat
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.policy_training import LoraConfig, Updates
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.methods import policy_gradient
from irl_jax.train.objectives import PolicyLoss
from irl_jax.types import InputError

Name = Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo"]


@dataclass(frozen=True)
class Algorithm:
    """What a name stands for; flags may say otherwise.

    Attributes:
        loss: of `irl_jax.losses.policy`.
        advantages: rewards f32[B, K] -> f32[B, K].
        clip: (ε_low, ε_high); None for a loss without a ratio.
        resample: rollouts more, to replace prompts of which all answers are right, or all wrong.
    """

    loss: PolicyLoss
    advantages: Callable[[Array], Array] = group_advantages
    clip: tuple[float, float] | None = (0.2, 0.2)
    resample: int = 0


# The clips are the papers'; cispo's names no number, and weights up to 5 are common.
ALGORITHMS: dict[Name, Algorithm] = {
    "grpo": Algorithm(grpo),
    "dr_grpo": Algorithm(dr_grpo, partial(group_advantages, scale=False)),
    "dapo": Algorithm(dapo, clip=(0.2, 0.28), resample=3),
    "gspo": Algorithm(gspo, clip=(3e-4, 4e-4)),
    "cispo": Algorithm(cispo, clip=(1.0, 4.0)),
    "rloo": Algorithm(reinforce, leave_one_out, clip=None),
}


@dataclass(frozen=True)
class PolicyConfig:
    """The policy gradient."""

    algorithm: Name = "grpo"  # loss, advantage and clip, see ALGORITHMS
    steps: int = 200  # rollouts
    prompts: int = 8  # questions of a rollout
    completions: int = 8  # completions of each question
    max_new_tokens: int = 256  # tokens of a completion, at most
    temperature: float = 1.0  # divides the logits
    lr: float = 1e-5  # peak learning rate of Adam; 10 % warm-up, cosine decay to 0
    beta: float = 0.0  # weight of the KL penalty to the model, reward a nat; 0: no reference
    clip_low: float | None = None  # ratios below 1 - clip_low are clipped; None: the algorithm's
    clip_high: float | None = None  # ratios above 1 + clip_high; None: the algorithm's
    epochs: int = 1  # passes over a rollout
    minibatches: int = 1  # updates of an epoch
    resample: int | None = None  # rollouts to replace uninformative ones; None: the algorithm's

    def __post_init__(self) -> None:
        check_range("policy.temperature", self.temperature, 0.0, exclusive=True)
        check_range("policy.lr", self.lr, 0.0, exclusive=True)
        check_range("policy.beta", self.beta, 0.0)
        check_range("policy.completions", self.completions, 2)
        for name in ("steps", "prompts", "max_new_tokens", "epochs", "minibatches"):
            check_range(f"policy.{name}", getattr(self, name), 1)
        check_range("policy.resample", self.resample or 0, 0)
        if ALGORITHMS[self.algorithm].clip is None:
            if self.epochs * self.minibatches > 1:
                raise InputError(
                    f"policy.epochs, policy.minibatches: {self.algorithm} has no ratio to make up "
                    "for several updates a rollout; set both to 1"
                )
            if not self.clip_low is self.clip_high is None:
                raise InputError(f"policy.clip_low, policy.clip_high: {self.algorithm} has no clip")
        if self.prompts % self.minibatches:
            raise InputError(
                f"policy.minibatches: {self.minibatches} does not divide policy.prompts "
                f"{self.prompts}; change one of them"
            )

    def loss(self) -> PolicyLoss:
        """The loss with its hyper-parameters."""
        algorithm = ALGORITHMS[self.algorithm]
        options: dict[str, Any] = {"beta": self.beta}
        if algorithm.clip is not None:
            given = zip((self.clip_low, self.clip_high), algorithm.clip, strict=True)
            options["clip"] = tuple(own if flag is None else flag for flag, own in given)
        if algorithm.loss is dr_grpo:
            options["length"] = float(self.max_new_tokens)
        return partial(algorithm.loss, **options)

    def updates(self) -> Updates:
        """The method with its hyper-parameters, and the sizes."""
        algorithm = ALGORITHMS[self.algorithm]
        return Updates(
            policy_gradient(self.loss(), algorithm.advantages, Sampling(self.temperature)),
            reference=self.beta > 0,
            steps=self.steps,
            prompts=self.prompts,
            completions=self.completions,
            lr=self.lr,
            epochs=self.epochs,
            minibatches=self.minibatches,
            resample=algorithm.resample if self.resample is None else self.resample,
            decides="correct",
        )


@dataclass(frozen=True)
class Config:
    """Reinforcement learning from verifiable rewards."""

    data: DataConfig = field(default_factory=DataConfig)
    model: str = "smollm2"  # smollm2, tiny, a GGUF file or a Hugging Face directory
    tokenizer: Path | None = None  # directory of another tokenizer; None: the model's own
    train: Literal["lora", "full"] = "lora"  # what is trained: a LoRA, or every weight
    run_dir: Path = Path("runs/gsm8k")  # directory of results; a run resumes there
    seed: int = 0  # seed of everything random
    dtype: Literal["float32", "bfloat16"] = "float32"  # dtype of the computation
    remat: Remat = "auto"  # what blocks keep for the backward pass; full: least memory, slower
    accumulate: int = 1  # micro-batches of an update: less memory, slower
    save_every: int = 50  # rollouts between checkpoints
    samples: int = 1  # questions of a rollout whose completions go to samples.jsonl
    export_dtype: Literal["float32", "bfloat16"] = "float32"  # dtype of the exported weights
    lora: LoraConfig = field(default_factory=LoraConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self) -> None:
        if self.reward.overlong:
            check_range("reward.buffer", self.reward.buffer, 1, self.policy.max_new_tokens)


CONFIG = Config()
