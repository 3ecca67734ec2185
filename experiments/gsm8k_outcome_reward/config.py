"""The settings of `experiments.gsm8k_outcome_reward`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from irl_jax.rewards.embedding import EnsembleConfig


@dataclass(frozen=True)
class Config:
    """Outcome reward models on recorded solutions."""

    data: Path | None = None  # example_model_solutions.jsonl of GSM8K
    run_dir: Path = Path("runs/gsm8k_outcome_reward")  # directory of results; a run resumes there
    language_model: str = "smollm2"  # smollm2, tiny, a GGUF file or a Hugging Face directory
    tokenizer: Path | None = None  # directory of another tokenizer; None: the model's own
    sentence_encoder: Path | None = None  # BERT in Hugging Face's layout; None: all-MiniLM-L6-v2
    layers: int = 15  # layers of the language model that its features come from
    dtype: str = "bfloat16"  # dtype of its matmuls: bfloat16 or float32
    max_prompt: int = 192  # tokens of a question that are read, the last ones
    max_completion: int = 256  # tokens of a solution that are read, the first ones
    held_out: float = 0.2  # share of the questions that is kept from training
    seeds: int = 20  # splits, each with models of its own
    reward: EnsembleConfig = field(default_factory=lambda: EnsembleConfig(members=3))


CONFIG = Config()
