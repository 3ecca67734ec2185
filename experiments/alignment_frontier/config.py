"""The settings of `experiments.alignment_frontier`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from experiments.alignment_frontier.worlds import LanguageConfig
from experiments.sandbox.runs import Measuring, Training
from experiments.sandbox.task import SandboxConfig
from irl_jax.dynamics.advantages import group_advantages
from irl_jax.losses.direct import dpo, ipo
from irl_jax.losses.policy import grpo
from irl_jax.losses.reference_free import simpo
from irl_jax.losses.unpaired import each_side, kto
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.train.methods import (
    Method,
    actor_critic,
    compared,
    nash_md,
    offline,
    online,
    remax,
    rloo,
)
from irl_jax.train.objectives import (
    direct_objective,
    mismatched_objective,
    reference_free_objective,
)

METHODS: dict[str, Method] = {
    "DPO": offline(direct_objective, lambda b: partial(dpo, beta=b), (0.1, 0.5)),
    "IPO": offline(direct_objective, lambda b: partial(ipo, tau=b), (0.02, 0.1)),
    "KTO": offline(
        mismatched_objective,
        lambda b: partial(each_side(kto), beta=b, good=1.0, bad=1.0),
        (0.1, 0.5),
    ),
    "SimPO": offline(
        reference_free_objective, lambda b: partial(simpo, beta=b, gamma=0.5), (0.5, 2.0)
    ),
    "RLOO": rloo((0.1, 0.2)),
    "GRPO": online(lambda b: partial(grpo, clip=0.2, beta=b), group_advantages, (0.02, 0.2)),
    "PPO": actor_critic((0.1, 0.2), clip=0.2, value_clip=5.0, value_weight=0.1),
    "online DPO": compared(lambda b: partial(dpo, beta=b), (0.1, 0.5)),
    "ReMax": remax((0.1, 0.2)),
    "Nash-MD": nash_md((0.02, 0.05), share=0.125, opponents=2),
}


PROXY: Literal["proxy"] = "proxy"
GOLD: Literal["gold"] = "gold"
SANDBOX = "sandbox"


@dataclass(frozen=True)
class Config:
    """One task, every method."""

    model: str = SANDBOX  # sandbox, smollm2, tiny, a GGUF file or a Hugging Face directory
    run_dir: Path = Path("runs/alignment_frontier")  # directory of results; a run resumes there
    methods: tuple[str, ...] = tuple(METHODS)  # names in METHODS; DPO must be among them
    teachers: tuple[Literal["proxy", "gold"], ...] = (PROXY, GOLD)  # rewards of methods that sample
    language: LanguageConfig = field(default_factory=LanguageConfig)  # task of a language model
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    seeds: int = 8  # worlds, each with its comparisons, proxy and policies
    comparisons: int = 1024  # pairs that offline methods and the proxy learn from
    annotator_beta: float = 2.0  # inverse noise of comparisons, per standard deviation of gold
    reward: EnsembleConfig = field(
        default_factory=lambda: EnsembleConfig(
            members=4, steps=200, batch_size=64, lr=3e-3, weight_decay=0.1
        )
    )
    training: Training = field(default_factory=Training)
    measuring: Measuring = field(default_factory=Measuring)
    best_of: int = 128  # completions that best-of-n chooses from, at most
    best_of_prompts: int = 64  # prompts that best-of-n is measured on


CONFIG = Config()
