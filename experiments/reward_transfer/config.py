"""The settings of `experiments.reward_transfer`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irl_jax.masking import check_range
from irl_jax.types import InputError


@dataclass(frozen=True)
class Config:
    """Rewards of adversarial imitators, planned for where moves lead elsewhere."""

    run_dir: Path = Path("runs/reward_transfer")  # directory of results; a run resumes there
    worlds: int = 40  # processes and rewards of each kind
    states: int = 16  # of a process
    actions: int = 4  # in each state
    discount: float = 0.9  # γ of the expert, of its imitators and of the planner
    deviation: float = 1.0  # of the rewards, nats
    successors: int = 3  # states that a move may lead to, where chance decides
    shares: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)  # of the moves that lead elsewhere
    start: float = 5.0  # deviation of g and h where a second search of AIRL begins, nats
    seed: int = 0  # of the processes and the rewards

    def __post_init__(self) -> None:
        check_range("worlds", self.worlds, 2)
        check_range("actions", self.actions, 2)
        check_range("deviation", self.deviation, 0.0, exclusive=True)
        check_range("successors", self.successors, 2)
        check_range("start", self.start, 0.0, exclusive=True)
        for share in self.shares:
            check_range("shares", share, 0.0, 1.0, exclusive=True)
        if self.states < 4 or self.states % 2:
            raise InputError(f"states: expected an even number from 4, got {self.states}")


CONFIG = Config()
