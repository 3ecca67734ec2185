"""The settings of `experiments.active_reward_modelling`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from experiments.valence.answers import AnswersConfig
from irl_jax.rewards.embedding import EnsembleConfig

QUICK = EnsembleConfig(members=5, widths=(16,), steps=100, batch_size=64, lr=2e-3)


@dataclass(frozen=True)
class Config:
    """Rules that choose which pairs of answers are labelled."""

    run_dir: Path = Path("runs/active_reward_modelling")  # where results go; a run resumes there
    answers: AnswersConfig = field(default_factory=AnswersConfig)
    pool: int = 2000  # pairs that a rule chooses from
    batch: int = 32  # labels a round; the first round takes random pairs
    rounds: int = 8  # rounds, the first one included
    beta: float = 6.0  # of the annotator: P(first) = sigmoid(beta (gold difference))
    prior: float = 1.0  # precision of the last layer's weights before any label
    samples: int = 200  # sequences of labels that BatchBALD imagines
    held_out: float = 0.25  # share of the prompts that is kept from training
    best_of: int = 16  # answers from which the learned reward chooses the best
    seeds: int = 10  # repeats, with other splits, pools, labels and models
    reward: EnsembleConfig = QUICK


CONFIG = Config()
