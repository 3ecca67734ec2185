"""The settings of `experiments.dense_or_sparse`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irl_jax.masking import check_range
from irl_jax.types import InputError


@dataclass(frozen=True)
class Config:
    """A reward at the end, or a teacher at every token, at equal compute."""

    run_dir: Path = Path("runs/dense_or_sparse")  # directory of results; a run resumes there
    seeds: int = 8  # students, each with questions and teachers of its own
    budgets: tuple[int, ...] = (50, 200)  # compute of a run, in batches of GRPO of the student
    lessons: int = 64  # worked solutions that student and teacher were shown, and a batch of them
    held_out: int = 40  # questions that nobody is shown and that are not practised
    student: int = 32  # width of the student
    teacher: int = 64  # width of the teachers
    layers: int = 2  # of every model
    shown: int = 120  # updates on the worked solutions
    prompts: int = 32  # questions of a batch
    completions: int = 8  # solutions of each
    lr: float = 1e-3  # peak learning rate of GRPO of the student
    teacher_lr: float = 1e-3  # peak learning rate of GRPO of the teacher
    dense_lr: float = 5e-3  # peak learning rate of the student after a teacher
    attempts: int = 16  # at each question, by which a student is judged
    seed: int = 0  # of the first student

    def __post_init__(self) -> None:
        check_range("seeds", self.seeds, 2)
        check_range("shown", self.shown, 10)
        for name in ("lessons", "held_out", "prompts", "attempts"):
            check_range(name, getattr(self, name), 1)
        check_range("completions", self.completions, 2)
        for name in ("student", "teacher"):
            if getattr(self, name) % 8 or getattr(self, name) < 8:
                raise InputError(f"{name}: a width is a multiple of 8, got {getattr(self, name)}")
        if not self.budgets or min(self.budgets) < 1:
            raise InputError(f"budgets: expected numbers from 1, got {list(self.budgets)}")


CONFIG = Config()
