"""The settings of `experiments.feedback_forms`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from experiments.feedback_forms.attributes import AttributesConfig
from experiments.feedback_forms.feedback import FORMS
from experiments.feedback_forms.training_rate import RateConfig
from experiments.valence.answers import AnswersConfig
from irl_jax.rewards.embedding import EnsembleConfig

LINEAR = EnsembleConfig(members=1, widths=(), steps=100, batch_size=256)


@dataclass(frozen=True)
class Config:
    """The same impressions of answers, told in every form of feedback."""

    run_dir: Path = Path("runs/feedback_forms")  # directory of results; a run resumes there
    answers: AnswersConfig = field(default_factory=AnswersConfig)
    forms: tuple[str, ...] = tuple(FORMS)  # what is tried; the others are compared with the first
    error_rates: tuple[float, ...] = (0.1, 0.2, 0.3)  # shares of pairs told the wrong way round
    error_rate: float = 0.2  # error rate of everything but the comparison of rates
    readings: tuple[int, ...] = (240, 480, 960, 1920)  # answers read; the last one elsewhere
    decisions: int = 480  # marks or comparisons, where forms get equally many decisions
    ties: float = 0.3  # share of pairs that are called equal where that is allowed
    people: int = 20  # people who read answers
    spread: float = 0.5  # standard deviation of the logarithm of people's scales
    offset: float = 1.0  # standard deviation of people's offsets, in those of impressions
    held_out: float = 0.25  # share of the prompts that is kept from training
    best_of: int = 16  # answers from which the learned reward chooses the best
    seeds: int = 10  # repeats, with other splits, groups, noise and people
    lrs: tuple[float, ...] = (3e-4, 1e-3)  # learning rates; each form gets the best of them
    reward: EnsembleConfig = LINEAR  # batch_size in answers; lr is not read
    attributes: AttributesConfig = field(default_factory=AttributesConfig)
    rate: RateConfig = field(default_factory=RateConfig)


CONFIG = Config()
