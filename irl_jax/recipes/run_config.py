"""What runs that train share in their settings: data, model, how a loss is learned, measures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from irl_jax.masking import check_range
from irl_jax.models.decoder_config import Remat
from irl_jax.recipes.examples import DataConfig, FileConfig
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.policy_training import LoraConfig
from irl_jax.train.track import Tracker

MOST_EPOCHS = 1e6  # beyond which updates are not counted any more


@dataclass(frozen=True)
class EvaluationConfig:
    """How things are measured on held-out prompts."""

    prompts: int = 64  # held-out prompts that are answered, at most
    completions: int = 4  # completions of each prompt, before and after
    batch_size: int = 16  # examples or prompts at a time

    def __post_init__(self) -> None:
        check_range("evaluation.prompts", self.prompts, 2)
        check_range("evaluation.completions", self.completions, 1)
        check_range("evaluation.batch_size", self.batch_size, 1)


@dataclass(frozen=True)
class Learning:
    """How a loss is learned."""

    GROUP: ClassVar[str] = ""  # what its flags begin with

    loss: str = "dpo"  # a name that `irl-jax losses` lists, MODULE:FUNCTION or FILE.py:FUNCTION
    options: Annotated[Any, tyro.conf.arg(name="loss")] = field(  # hyper-parameters of the loss
        default=None, metadata={"flag": "loss"}
    )  # see `recipes.options.make_options`
    lr: float = 1e-4  # peak learning rate of Adam; 10 % warm-up, cosine decay to 0
    batch_size: int = 16  # examples of an update; prompts, of a loss of samples
    epochs: float = 1.0  # passes over the data
    steps: int | None = None  # updates; None: what the epochs come to
    margin: float = 0.0  # factor of the margins of pairs (score differences); 0 leaves them out

    def __post_init__(self) -> None:
        check_range(f"{self.GROUP}lr", self.lr, 0.0, exclusive=True)
        check_range(f"{self.GROUP}batch_size", self.batch_size, 1)
        check_range(f"{self.GROUP}epochs", self.epochs, 0.0, MOST_EPOCHS, exclusive=True)
        check_range(f"{self.GROUP}margin", self.margin, 0.0)
        if self.steps is not None:
            check_range(f"{self.GROUP}steps", self.steps, 1)

    def updates(self, batches_per_epoch: int) -> int:
        """How many updates there are."""
        return self.steps or max(1, round(self.epochs * batches_per_epoch))


@dataclass(frozen=True)
class Source:
    """What is learned from, what learns, and where that is written."""

    data: FileConfig = field(default_factory=FileConfig)
    model: str = "smollm2"  # smollm2, tiny, GGUF, a directory, also of a LoRA, or hf://OWNER/NAME
    run_dir: Path | None = None  # what is written, and where a run goes on; None: runs/LOSS


@dataclass(frozen=True)
class Basics(Source, Learning):
    """What most runs set."""


@dataclass(frozen=True)
class Settings(Source):
    """What every run that trains a language model sets, whatever it learns."""

    data: DataConfig = field(default_factory=DataConfig)
    seed: int = 0  # of everything random
    track: Tracker | None = None  # metrics are also sent there; nothing is sent by default
    tokenizer: Path | None = None  # directory of another tokenizer; None: the model's own
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation
    remat: Remat = "auto"  # what blocks keep for the backward pass; full: least memory, slower
    attention_chunk: int | None = None  # tokens of whose scores are held at a time; None: of all
    accumulate: int = 1  # micro-batches of an update: less memory, slower
    save_every: int = 50  # updates between checkpoints
    lora: LoraConfig = field(default_factory=LoraConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
