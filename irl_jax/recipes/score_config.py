"""The settings of `irl-jax score`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from irl_jax.data.benchmarks import BENCHMARKS
from irl_jax.data.process_files import PROCESS_FILES
from irl_jax.masking import check_range
from irl_jax.recipes.judge_config import JudgeConfig
from irl_jax.recipes.read_config import ReadConfig
from irl_jax.types import InputError

PROCESSBENCH = "processbench"


@dataclass(frozen=True)
class ScoreConfig:
    """A reward and what it is held against."""

    data: Path | None = None  # JSONL (.gz) or Parquet of comparisons or scored responses
    benchmark: str | None = None  # rewardbench, rm-bench, judgebench, ppe-..., processbench
    reward: Literal["learned", "likelihood", "judge", "rubric", "length"] = "learned"  # its kind
    model: str | None = None  # learned: a run's or a reward model's; others: smollm2, GGUF, HF
    rubric: Path | None = None  # JSON list of criteria, [{"text", "weight", "name"}]
    run_dir: Path = Path("runs/score")  # directory of results; a run resumes there
    held_out: bool = False  # score only prompts that the run of a learned reward held out
    ties: Literal["error", "drop"] = "error"  # what becomes of a line whose sides are equal
    scores: Literal["error", "swap"] = "error"  # what becomes of score_chosen < score_rejected
    threshold: float | None = 0.5  # of processbench: a step below it is wrong; None: chosen
    separator: str = "\n"  # of processbench: ends a step for an ...ForTokenClassification
    limit: int | None = None  # lines that are scored, drawn at random; None: all
    edits: int = 100  # comparisons that are also scored after edits, drawn at random; 0: none
    seed: int = 0  # seed of what is drawn at random
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    read: ReadConfig = field(default_factory=ReadConfig)

    def __post_init__(self) -> None:
        check_range("edits", self.edits, 0)
        if self.held_out and self.reward != "learned":
            raise InputError(
                f"held_out: a {self.reward} reward has no run that held prompts out; leave it away"
            )
        self._check_judge()
        if self.benchmark is not None:
            self._check_benchmark(self.benchmark)
        if self.benchmark != PROCESSBENCH and (self.threshold, self.separator) != (0.5, "\n"):
            raise InputError(
                f"threshold, separator: are of --benchmark {PROCESSBENCH}; leave them out"
            )
        if self.limit is not None:
            check_range("limit", self.limit, 2)

    def _check_judge(self) -> None:
        judged = self.reward in ("judge", "rubric")
        if (self.reward == "rubric") != (self.rubric is not None):
            fix = "give a file of criteria" if self.rubric is None else "leave it away"
            raise InputError(f"rubric: --reward is {self.reward}; {fix}")
        if not judged and self.judge != JudgeConfig():
            raise InputError(f"judge: a {self.reward} reward asks no judge; leave it away")
        if judged and (self.read.max_completion or self.read.label):
            name = "max_completion" if self.read.max_completion else "label"
            raise InputError(
                f"read.{name}: a judge reads a response in its question; leave it away"
            )
        if self.reward == "judge" and self.judge.asks != "rating" and self.edits:
            raise InputError(
                "edits: a judge of pairs compares the responses of a line, not edits of them; give "
                "--edits 0"
            )

    def _check_benchmark(self, name: str) -> None:
        known = ", ".join(BENCHMARKS)
        if name in PROCESS_FILES and (name != PROCESSBENCH or self.reward != "learned"):
            raise InputError(
                f"benchmark: {PROCESS_FILES[name].title} needs a reward of steps, and a "
                f"{self.reward} reward of irl-jax score judges whole responses; give one of {known}"
            )
        if name == PROCESSBENCH:
            if self.held_out:
                raise InputError(
                    "held_out: a process reward model holds nothing out; leave it away"
                )
            if self.threshold is not None:
                check_range("threshold", self.threshold, 0.0, 1.0)
            return
        if name not in BENCHMARKS:
            raise InputError(f"benchmark: no {name!r}; expected one of {known}")
        if self.scores == "swap":
            raise InputError("scores: a benchmark's sides are not swapped; leave it away")


CONFIG = ScoreConfig()
