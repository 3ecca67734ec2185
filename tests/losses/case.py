"""A loss as a row of a table: what it reads, and what it should equal."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from irl_jax.types import (
    AnnotatorBatch,
    Demonstration,
    Group,
    Loss,
    Preference,
    Ranking,
    Rating,
    StepLabels,
    Trajectory,
)

FIELDS = {
    Demonstration: {"tokens": "BT", "mask": "BT", "segment": "BT"},
    Preference: {"context": "", "action": "B2T", "mask": "B2T", "margin": "B", "weight": "B"},
    Ranking: {"context": "", "action": "BKT", "mask": "BKT", "count": "B", "weight": "B"},
    Rating: {"context": "", "action": "BT", "mask": "BT", "score": "B", "weight": "B"},
    StepLabels: {
        "context": "",
        "action": "BT",
        "mask": "BT",
        "end": "BT",
        "label": "BT",
        "weight": "B",
    },
    AnnotatorBatch: {"mask": "BT", "weight": "B"},
    Group: {
        "context": "",
        "action": "BKT",
        "mask": "BKT",
        "logp": "BKT",
        "reward": "BK",
        "terminated": "BK",
    },
    Trajectory: {
        "context": "",
        "action": "BT",
        "mask": "BT",
        "logp": "BT",
        "reward": "BT",
        "terminated": "B",
    },
}

Inputs = dict[str, Any]  # "logp", "batch.mask", ... -> array


@dataclass(frozen=True, eq=False)
class Case:
    """A loss, where its inputs come from and what it should equal.

    Attributes:
        args: positional arrays in order, name -> axes; the first is differentiated.
        reads: fields of the batch that the loss looks at.
        keywords: arrays passed by keyword, name -> axes.
        params: hyper-parameters.
        oracle_params: those of the oracle, where they differ.
        stops_gradient: the gradient is not that of the value, on purpose; the family's
            test file says what it is.
    """

    name: str
    loss: Callable[..., Loss]
    oracle: Callable[..., tuple]
    batch: type
    args: dict[str, str]
    reads: tuple[str, ...]
    keywords: dict[str, str] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    oracle_params: dict[str, Any] | None = None
    stops_gradient: bool = False

    @property
    def axes(self) -> dict[str, str]:
        fields = {f"batch.{k}": v for k, v in FIELDS[self.batch].items()}
        return self.args | self.keywords | fields

    @property
    def first(self) -> str:
        return next(iter(self.args))

    @property
    def checked(self) -> list[str]:
        """The inputs whose shape and dtype the loss must check."""
        return [*self.args, *self.keywords, *(f"batch.{name}" for name in self.reads)]

    def _apply(self, function: Callable, inputs: Inputs, params: dict[str, Any]) -> Any:
        batch = self.batch(**{name: inputs[f"batch.{name}"] for name in FIELDS[self.batch]})
        arrays = {name: inputs[name] for name in self.keywords}
        return function(*(inputs[name] for name in self.args), batch, **arrays, **params)

    def __call__(self, inputs: Inputs, params: dict[str, Any] | None = None) -> Loss:
        return self._apply(self.loss, inputs, self.params if params is None else params)

    def expected(self, inputs: Inputs) -> tuple:
        params = self.params if self.oracle_params is None else self.oracle_params
        return self._apply(self.oracle, inputs, params)
