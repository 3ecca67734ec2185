"""The settings of `experiments.fine_grained_feedback`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from irl_jax.masking import check_range
from irl_jax.rewards.embedding import EnsembleConfig


@dataclass(frozen=True)
class Config:
    """Dense and whole rewards from one set of questions."""

    data: Path | None = None  # dev_feedback.json of QA-Feedback
    run_dir: Path = Path("runs/fine_grained_feedback")  # directory of results; a run resumes there
    language_model: str = "smollm2"  # smollm2, tiny, a GGUF file or a Hugging Face directory
    tokenizer: Path | None = None  # directory of another tokenizer; None: the model's own
    dtype: str = "bfloat16"  # dtype of the language model's activations: bfloat16 or float32
    layers: int = 15  # layers of the language model that the features come from
    max_prompt: int = 384  # tokens of passages and question that are read, the last ones
    max_completion: int = 288  # tokens of an answer that are read, the first ones
    judged: int = 100  # questions of which the language model judges one pair; 0 for none
    held_out: float = 0.2  # share of the questions that is kept from training
    questions: tuple[int, ...] = (50, 100, 200, 400)  # to learn from; the result is of the last
    seeds: int = 10  # splits, each with models of its own
    reward: EnsembleConfig = field(default_factory=lambda: EnsembleConfig(members=3))

    def __post_init__(self) -> None:
        check_range("held_out", self.held_out, 0.0, 0.5, exclusive=True)
        check_range("seeds", self.seeds, 2)
        check_range("judged", self.judged, 0)


CONFIG = Config()
