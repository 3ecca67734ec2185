"""The settings of `experiments.prompt_oirl_gsm8k`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from irl_jax.rewards.embedding import EnsembleConfig


@dataclass(frozen=True)
class Config:
    """A prompt for each question."""

    data: Path | None = None  # npz of the logs: train_correct, test_correct, bool[6, N]
    gsm8k: Path | None = None  # directory of train.jsonl and test.jsonl
    run_dir: Path = Path("runs/prompt_oirl_gsm8k")  # directory of results; a run resumes there
    sentence_encoder: Path | None = None  # BERT in Hugging Face's layout; None: all-MiniLM-L6-v2
    folds: int = 3  # folds of the training questions, to choose a reward model by
    seeds: int = 3  # ensembles of each kind; for a set of prompts, one of one member
    reward: EnsembleConfig = field(
        default_factory=lambda: EnsembleConfig(
            members=3, widths=(64,), steps=500, batch_size=64, lr=1e-3
        )
    )


CONFIG = Config()
