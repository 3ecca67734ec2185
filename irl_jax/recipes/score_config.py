"""The settings of `irl-jax score`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from irl_jax.data.benchmarks import BENCHMARKS
from irl_jax.data.process_files import PROCESS_FILES
from irl_jax.masking import check_range
from irl_jax.recipes.read_config import ReadConfig
from irl_jax.types import InputError


@dataclass(frozen=True)
class ScoreConfig:
    """A reward and what it is held against."""

    data: Path | None = None  # JSONL (.gz) or Parquet of comparisons or scored responses
    benchmark: str | None = None  # rewardbench, rewardbench-2, rm-bench, judgebench, ppe-...
    reward: Literal["learned", "likelihood", "length"] = "learned"  # what gives the numbers
    model: str | None = None  # learned: a run's or a reward model's; likelihood: smollm2, GGUF, HF
    run_dir: Path = Path("runs/score")  # directory of results; a run resumes there
    held_out: bool = False  # score only prompts that the run of a learned reward held out
    ties: Literal["error", "drop"] = "error"  # what becomes of a line whose sides are equal
    scores: Literal["error", "swap"] = "error"  # what becomes of score_chosen < score_rejected
    limit: int | None = None  # lines that are scored, drawn at random; None: all
    edits: int = 100  # comparisons that are also scored after edits, drawn at random; 0: none
    seed: int = 0  # seed of what is drawn at random
    read: ReadConfig = field(default_factory=ReadConfig)

    def __post_init__(self) -> None:
        check_range("edits", self.edits, 0)
        if self.held_out and self.reward != "learned":
            raise InputError(
                f"held_out: a {self.reward} reward has no run that held prompts out; leave it away"
            )
        if self.benchmark is not None:
            self._check_benchmark(self.benchmark)
        if self.limit is not None:
            check_range("limit", self.limit, 2)

    def _check_benchmark(self, name: str) -> None:
        known = ", ".join(BENCHMARKS)
        if name in PROCESS_FILES:
            raise InputError(
                f"benchmark: {PROCESS_FILES[name].title} needs a reward of steps, and a "
                f"{self.reward} reward of irl-jax score judges whole responses; give one of {known}"
            )
        if name not in BENCHMARKS:
            raise InputError(f"benchmark: no {name!r}; expected one of {known}")
        if self.scores == "swap":
            raise InputError("scores: a benchmark's sides are not swapped; leave it away")


CONFIG = ScoreConfig()
