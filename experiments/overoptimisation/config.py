"""The settings of `experiments.overoptimisation`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from experiments.sandbox.task import SandboxConfig
from irl_jax.rewards.embedding import EnsembleConfig


@dataclass(frozen=True)
class PolicyConfig:
    """GRPO and DPO."""

    updates: int = 48  # updates of GRPO, even; the second half may see new comparisons
    prompts: int = 8  # prompts of an update of GRPO
    completions: int = 4  # completions of each prompt
    lr: float = 3e-3  # learning rate of Adam in GRPO
    penalties: tuple[float, ...] = (0.1, 0.3)  # weights of the KL penalty, proxy reward a nat
    deviations: float = 1.0  # the lower confidence bound is so many below the mean
    dpo_updates: int = 120  # updates of DPO
    dpo_every: int = 10  # updates of DPO between measurements
    dpo_batch: int = 32  # pairs of an update of DPO
    dpo_lr: float = 1e-3  # learning rate of Adam in DPO
    dpo_beta: float = 0.05  # beta of DPO, implicit reward a nat


@dataclass(frozen=True)
class Config:
    """Proxies of several sizes, optimised in several ways."""

    run_dir: Path = Path("runs/overoptimisation")  # directory of results; a run resumes there
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    seeds: int = 24  # worlds, each with its comparisons, proxies and policies
    pairs: tuple[int, ...] = (128, 512, 2048)  # comparisons that a proxy learns from
    widths: tuple[int, ...] = (4, 64)  # hidden units of a proxy
    annotator_beta: float = 2.0  # inverse noise of comparisons, per standard deviation of gold
    best_of: int = 128  # completions that best-of-n chooses from, at most
    best_of_prompts: int = 32  # prompts that best-of-n is measured on
    reward: EnsembleConfig = field(
        default_factory=lambda: EnsembleConfig(
            members=4, steps=200, batch_size=64, lr=3e-3, weight_decay=0.1
        )
    )
    policy: PolicyConfig = field(default_factory=PolicyConfig)


CONFIG = Config()
