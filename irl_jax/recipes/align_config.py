"""The settings of `irl-jax align` and `irl-jax sft`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

import tyro

from irl_jax.masking import check_range
from irl_jax.recipes.examples import DataConfig, FileConfig
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.policy_training import LoraConfig
from irl_jax.recipes.preference_measures import EvaluationConfig
from irl_jax.train.track import Tracker

MOST_EPOCHS = 1e6  # beyond which updates are not counted any more
Options = TypeVar("Options")  # of the loss, see `recipes.options.make_options`


@dataclass(frozen=True)
class SampleConfig:
    """How completions are sampled, in training and for measuring."""

    temperature: float = 1.0  # divides the logits
    max_new_tokens: int | None = None  # tokens; None: the longest completion of the data

    def __post_init__(self) -> None:
        check_range("sample.temperature", self.temperature, 0.0, exclusive=True)
        if self.max_new_tokens is not None:
            check_range("sample.max_new_tokens", self.max_new_tokens, 1)


@dataclass(frozen=True)
class Basics(Generic[Options]):
    """What most runs set."""

    data: FileConfig = field(default_factory=FileConfig)
    loss: str = "dpo"  # a name that `irl-jax losses` lists, MODULE:FUNCTION or FILE.py:FUNCTION
    options: Annotated[Options, tyro.conf.arg(name="loss")] = field(  # hyper-parameters of the loss
        default=cast(Any, None),
        metadata={"flag": "loss"},
    )
    model: str = "smollm2"  # smollm2, tiny, a GGUF file or a Hugging Face directory
    lr: float = 1e-4  # peak learning rate of Adam; 10 % warm-up, cosine decay to 0
    batch_size: int = 16  # examples of an update; prompts, of a loss of samples
    epochs: float = 1.0  # passes over the data
    steps: int | None = None  # updates; None: what the epochs come to
    run_dir: Path | None = None  # what is written, and where a run goes on; None: runs/LOSS

    def __post_init__(self) -> None:
        check_range("lr", self.lr, 0.0, exclusive=True)
        check_range("batch_size", self.batch_size, 1)
        check_range("epochs", self.epochs, 0.0, MOST_EPOCHS, exclusive=True)
        if self.steps is not None:
            check_range("steps", self.steps, 1)

    def updates(self, batches_per_epoch: int) -> int:
        """How many updates there are."""
        return self.steps or max(1, round(self.epochs * batches_per_epoch))


@dataclass(frozen=True)
class PolicyBasics(Basics[Options]):
    """What most runs that train a policy set."""

    train: Literal["lora", "full"] = "lora"  # a LoRA, or every weight
    reward: str | None = None  # MODULE:FUNCTION of texts, or the run of `irl-jax reward`
    completions: int = 8  # of each prompt, where the loss learns from samples

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("completions", self.completions, 1)


@dataclass(frozen=True)
class AlignConfig(PolicyBasics[Options]):
    """A policy by any published loss, or by one of your own."""

    data: DataConfig = field(default_factory=DataConfig)
    margin: float = 0.0  # factor of the margins of pairs (score differences); 0 leaves them out
    seed: int = 0  # of everything random
    track: Tracker | None = None  # metrics are also sent there; nothing is sent by default
    tokenizer: Path | None = None  # directory of another tokenizer; None: the model's own
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation
    remat: bool = False  # recompute activations in the backward pass: less memory, slower
    accumulate: int = 1  # micro-batches of an update: less memory, slower
    save_every: int = 50  # updates between checkpoints
    export_dtype: Literal["float32", "bfloat16"] = "float32"  # of the exported weights
    lora: LoraConfig = field(default_factory=LoraConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("margin", self.margin, 0.0)
