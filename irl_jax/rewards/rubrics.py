"""A reward that is a list of criteria with weights, each judged on its own.

Reference: Gunjal et al. 2025, "Rubrics as Rewards: Reinforcement Learning Beyond Verifiable
Domains", arXiv 2507.17746; Arora et al. 2025, "HealthBench: Evaluating Large Language Models
Towards Improved Human Health", arXiv 2505.08775.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.data.fields import number, string
from irl_jax.data.lines import kind
from irl_jax.files import read_text
from irl_jax.masking import as_float, check_range
from irl_jax.rewards.directions import map_weights
from irl_jax.types import InputError

QUESTION = """A request and an answer to it follow. Does the answer meet the criterion?

Request:
{request}

Answer:
{response}

Criterion:
{criterion}

Does the answer meet the criterion, Yes or No? Reply with one word."""
ANSWERS = ("Yes", "No")

_map_weights = jax.jit(map_weights)


@dataclass(frozen=True)
class Criterion:
    """One thing that is asked of a response.

    Attributes:
        text: what is to hold, as the judge reads it.
        weight: what it is worth; below 0 where it should not hold.
        name: for reports.
    """

    text: str
    weight: float
    name: str


def read_rubric(path: Path) -> list[Criterion]:
    """The criteria of a JSON file, `[{"text", "weight", "name"}, ...]`.

    A criterion without `weight` has 1; one without `name` is named by its number.

    Args:
        path: the file.

    Raises:
        InputError: it cannot be read, has no criterion or another form, an unknown field, a weight
            of 0, no weight above 0, or two criteria of one name.
    """
    try:
        rows = json.loads(read_text(path))
    except ValueError as error:
        raise InputError(f"{path}: broken JSON ({error}); fix it") from error
    if not isinstance(rows, list) or not rows:
        raise InputError(
            f'{path}: expected a list of criteria, [{{"text": ..., "weight": ...}}], found '
            f"{kind(rows)}"
        )
    criteria = [_criterion(row, i, f"{path}: criterion {i}") for i, row in enumerate(rows, 1)]
    names = [criterion.name for criterion in criteria]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"{path}: two criteria are named {twice!r}; rename one")
    if all(criterion.weight < 0 for criterion in criteria):
        raise InputError(f"{path}: no criterion has a weight above 0; give one that should hold")
    return criteria


def _criterion(row: Any, place: int, source: str) -> Criterion:
    if not isinstance(row, dict):
        raise InputError(f"{source}: is {kind(row)}; expected an object with `text` and `weight`")
    if unknown := sorted(set(row) - {"text", "weight", "name"}):
        raise InputError(f"{source}: unknown field `{unknown[0]}`; it has text, weight and name")
    row = {"weight": 1.0, "name": f"criterion {place}", **row}
    weight = number(row["weight"], "weight", source)
    if weight == 0:
        raise InputError(f"{source}: `weight` is 0; leave the criterion out")
    text, name = (string(row, field, source) for field in ("text", "name"))
    if not text.strip():
        raise InputError(f"{source}: `text` is empty; say what is to hold")
    return Criterion(text, weight, name)


def explicit_aggregate(judged: Array, weights: Array) -> Array:
    """One reward of all criteria, r = Σ_k w_k c_k / Σ_k max(w_k, 0).

    1 where all that should hold does and nothing else; with weights above 0 alone it lies in
    [0, 1] and is their mean.

    Args:
        judged: c_k, f32[..., K], probability that criterion k is met.
        weights: w_k, f32[K], one at least above 0.

    Returns:
        r, f32[...].

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Gunjal et al. 2025, arXiv 2507.17746, eq. 1 (explicit aggregation); Arora et al.
    2025, arXiv 2505.08775 (points below 0, which are no part of what can be reached).

    Differs: their c_k are 0 or 1.

    Example:
        >>> explicit_aggregate(jnp.array([[1.0, 0.0], [1.0, 1.0]]), jnp.array([2.0, -1.0])).tolist()
        [1.0, 0.5]
    """
    judged = as_float("judged", judged, (*judged.shape[:-1], None))
    weights = as_float("weights", weights, judged.shape[-1:])
    return judged @ weights / jnp.maximum(weights, 0.0).sum()


def learned_weights(
    judged: Array, weight: Array, criteria: list[Criterion], *, strength: float
) -> list[Criterion]:
    """The rubric with weights learned from comparisons, its own weights as the prior.

    P(chosen) = σ(Σ_k v_k (c_k(yʷ) − c_k(yˡ))), v ~ N(w, I / strength): a linear Bradley-Terry
    reward on what the criteria say. v is in log-odds (nats), so that `explicit_aggregate` keeps
    its order, not its scale.

    Args:
        judged: c, f32[N, 2, K], chosen first; of weight 0 may be NaN.
        weight: f32[N], weight of each comparison.
        criteria: K of them.
        strength: of the prior, above 0: as many comparisons, about, as it takes to move a weight.

    Raises:
        InputError: an array has the wrong shape or dtype, the strength is not above 0.

    Reference: Bradley & Terry 1952, "Rank analysis of incomplete block designs".
    """
    check_range("strength", strength, 0.0, exclusive=True)
    judged = as_float("judged", judged, (None, 2, len(criteria)))
    prior = jnp.array([criterion.weight for criterion in criteria])
    found = _map_weights(
        judged[:, 0] - judged[:, 1], weight, mean=prior, precision=strength * jnp.eye(len(prior))
    )
    return [replace(c, weight=float(v)) for c, v in zip(criteria, np.asarray(found), strict=True)]
