"""The settings of `experiments.guided_decoding`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from experiments.sandbox.task import SandboxConfig
from irl_jax.rewards.embedding import EnsembleConfig


@dataclass(frozen=True)
class Config:
    """Worlds, what is learned in them, and how strongly it steers."""

    run_dir: Path = Path("runs/guided_decoding")  # directory of results; a run resumes there
    seeds: int = 12  # worlds, each with a policy, a taste, a reward model and values of its own
    world: SandboxConfig = field(default_factory=SandboxConfig)
    pairs: int = 4096  # comparisons that the reward model learns from
    beta: float = 2.0  # inverse noise of annotators, per standard deviation of gold
    rollouts: int = 8192  # completions of the policy that values are learned from
    steps: int = 400  # updates of a value function
    batch_size: int = 128  # completions of an update
    lr: float = 3e-3  # peak learning rate of Adam, cosine decay to 0
    prompts: int = 64  # held-out prompts to measure on
    completions: int = 4  # guided completions of each prompt
    weights: tuple[float, ...] = (1.0, 3.0, 9.0)  # w, nats a standard deviation of reward
    top_k: int = 16  # candidates for a token; 0 takes the whole vocabulary
    block: int = 4  # tokens of a block, in blockwise decoding
    candidates: tuple[int, ...] = (2, 4, 8)  # blocks M to choose from
    draws: int = 64  # completions of a prompt that best-of-n chooses among
    ns: tuple[int, ...] = (1, 2, 4, 9, 16, 32)  # values of n in best-of-n
    reward: EnsembleConfig = field(
        default_factory=lambda: EnsembleConfig(members=3, steps=400, lr=1e-3, weight_decay=0.1)
    )


CONFIG = Config()
