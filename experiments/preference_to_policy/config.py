"""The settings of `experiments.preference_to_policy`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from irl_jax.recipes.align_config import SampleConfig
from irl_jax.recipes.examples import DataConfig
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.policy_training import LoraConfig
from irl_jax.recipes.preference_measures import EvaluationConfig
from irl_jax.recipes.preference_training import DpoConfig, GrpoConfig, RewardConfig


@dataclass(frozen=True)
class Config:
    """From preferences to a policy."""

    data: DataConfig = field(default_factory=DataConfig)
    model: str = "smollm2"  # smollm2, tiny, a GGUF file or a Hugging Face directory
    tokenizer: Path | None = None  # directory of another tokenizer; None: the model's own
    method: Literal["dpo", "grpo"] = "dpo"  # how the policy is trained
    run_dir: Path = Path("runs/preference_to_policy")  # directory of results; a run resumes there
    seed: int = 0  # seed of everything random
    dtype: Literal["float32", "bfloat16"] = "float32"  # dtype of the computation
    remat: bool = False  # recompute activations in the backward pass: less memory, slower
    accumulate: int = 1  # micro-batches of an update: less memory, slower
    save_every: int = 50  # updates between checkpoints
    export_dtype: Literal["float32", "bfloat16"] = "float32"  # dtype of the exported weights
    lora: LoraConfig = field(default_factory=LoraConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    dpo: DpoConfig = field(default_factory=DpoConfig)
    grpo: GrpoConfig = field(default_factory=GrpoConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)


CONFIG = Config()
