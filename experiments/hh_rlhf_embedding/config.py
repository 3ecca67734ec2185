"""The settings of `experiments.hh_rlhf_embedding`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from irl_jax.rewards.embedding import EnsembleConfig


@dataclass(frozen=True)
class Config:
    """Losses and embeddings on human comparisons."""

    data: Path | None = None  # JSON Lines (.gz if gzipped) of comparisons
    run_dir: Path = Path("runs/hh_rlhf_embedding")  # directory of results; a run resumes there
    language_model: str = "smollm2"  # smollm2, tiny, a GGUF file or a Hugging Face directory
    tokenizer: Path | None = None  # directory of another tokenizer; None: the model's own
    sentence_encoder: Path | None = None  # BERT in Hugging Face's layout; None: all-MiniLM-L6-v2
    layers: int = 15  # layers of the language model that its features come from
    max_prompt: int = 192  # tokens of a dialogue that are read, the last ones
    max_completion: int = 96  # tokens of an answer that are read, the first ones
    held_out: float = 0.2  # share of the dialogues that is kept from training
    seeds: int = 10  # splits, each with models of its own
    flip_rate: float = 0.1  # share of flipped labels that the noise-robust losses assume
    reward: EnsembleConfig = field(default_factory=lambda: EnsembleConfig(members=3))


CONFIG = Config()
