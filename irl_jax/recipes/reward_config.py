"""The settings of `irl-jax reward`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from irl_jax.masking import check_range
from irl_jax.recipes.align_config import Basics, Options
from irl_jax.recipes.examples import DataConfig
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.policy_training import LoraConfig
from irl_jax.recipes.preference_measures import EvaluationConfig
from irl_jax.recipes.preference_training import MembersConfig
from irl_jax.train.track import Tracker


@dataclass(frozen=True)
class RewardConfig(Basics[Options]):
    """A reward model by any published loss: a language model with a head."""

    data: DataConfig = field(default_factory=DataConfig)
    loss: str = "bradley_terry"  # a name that `irl-jax losses` lists, MODULE:FUNCTION, FILE.py:…
    margin: float = 0.0  # factor of the margins of pairs (score differences); 0 leaves them out
    seed: int = 0  # of everything random
    track: Tracker | None = None  # metrics are also sent there; nothing is sent by default
    tokenizer: Path | None = None  # directory of another tokenizer; None: the model's own
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation
    remat: bool = False  # recompute activations in the backward pass: less memory, slower
    accumulate: int = 1  # micro-batches of an update: less memory, slower
    save_every: int = 50  # updates between checkpoints
    lora: LoraConfig = field(default_factory=LoraConfig)
    ensemble: MembersConfig = field(default_factory=MembersConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("margin", self.margin, 0.0)
