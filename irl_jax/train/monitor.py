"""Signs of over-optimisation while a policy trains: what has drifted from its first values?

A signal is a mean over the completions of an update, with their spread. Its drift is the
change of the mean since the first updates, in spreads of a completion at that time, so that
one limit serves rewards of any unit, tokens and nats. Where gold is known, the gap is the
drift of the proxy less the drift of gold: what the proxy claims and gold does not confirm.

    signals = group_signals(group, members=rewards, gold=gold)
    first, drifts = update(first, step, signals)
    metrics |= {f"drift_{name}": value for name, value in drifts.items()}
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TextIO

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.dynamics.weights import distinct
from irl_jax.masking import check_shape, masked_sum
from irl_jax.rewards.aggregate import disagreement
from irl_jax.types import Group, InputError, safe_divide

FIRST = 2  # updates that the first values are taken from
# signal -> drift up, and down, beyond which there is a warning; None: never
LIMITS: Mapping[str, tuple[float | None, float | None]] = {
    "gap": (1.0, None),
    "disagreement": (2.0, None),
    "length": (2.0, 2.0),
    "entropy": (None, 1.5),
    "duplicates": (0.25, None),
}
MEANING = {
    "gap": "the proxy rises and gold does not follow",
    "disagreement": "the ensemble is judging what it was not taught",
    "length": "responses change in length",
    "entropy": "the policy collapses",
    "duplicates": "responses to a prompt repeat each other",
}


class Signal(NamedTuple):
    """A quantity over the completions of an update."""

    mean: float
    spread: float  # standard deviation over completions; of a share, 1


Signals = Mapping[str, Signal]
First = Mapping[int, Signals]  # number of an update, from 1 -> its signals


@jax.jit
def _moments(group: Group, members: Array | None, gold: Array | None) -> dict[str, Array]:
    tokens = group.mask.sum(-1)
    found = {
        "proxy": group.reward,
        "length": tokens.astype(jnp.float32),
        "entropy": safe_divide(-masked_sum(group.logp, group.mask, axis=-1), 1.0 * tokens),
    }
    if members is not None:
        found["disagreement"] = disagreement(members)
    if gold is not None:
        found["gold"] = gold
    out = {name: jnp.stack([x.mean(), x.std()]) for name, x in found.items()}
    again = ~distinct(group.action, group.mask)
    return out | {"duplicates": jnp.stack([again.mean(), jnp.ones(())])}


def group_signals(
    group: Group, *, members: Array | None = None, gold: Array | None = None
) -> dict[str, Signal]:
    """The signals of an update.

    Args:
        group: completions, their log-probs when they were drawn, and the reward that is
            optimised.
        members: f32[M, B, K], rewards of an ensemble's members, if there is one.
        gold: f32[B, K], the gold reward, if it is known.

    Returns:
        `proxy`, `length` (tokens), `entropy` (−log π, nats a token), `duplicates` (share
        of completions that equal an earlier one of their prompt), `disagreement`
        (standard deviation over members) and `gold`, the last two where they are given.

    Raises:
        InputError: an array has another shape.
    """
    shape = group.reward.shape
    if members is not None:
        check_shape("members", members, (None, *shape))
    if gold is not None:
        check_shape("gold", gold, shape)
    found = jax.device_get(_moments(group, members, gold))
    return {name: Signal(*x.tolist()) for name, x in found.items()}


def update(first: First, step: int, signals: Signals) -> tuple[First, dict[str, float]]:
    """How far an update's signals are from the first ones.

    drift = (mean − mean₀) / spread₀, with mean₀ and spread₀ averaged over the first
    updates; gap = drift(proxy) − drift(gold).

    Args:
        first: signals of the first updates, so far; {} to begin.
        step: number of this update, from 1. One that was seen before, as after a
            restart, takes the place of what was seen.
        signals: of this update.

    Returns:
        The signals of the first updates, this one among them if it is one, and each
        signal's drift; 0 for all while there is nothing before.
    """
    if step <= FIRST:
        first = {**first, step: signals}

    def drift(name: str) -> float:
        seen = [s[name] for s in first.values() if name in s]
        spread = float(np.mean([s.spread for s in seen])) if seen else 0.0
        if not spread:
            return 0.0
        return (signals[name].mean - float(np.mean([s.mean for s in seen]))) / spread

    drifts = {name: drift(name) for name in signals}
    if "gold" in drifts:
        drifts["gap"] = drifts["proxy"] - drifts["gold"]
    return first, drifts


def beyond(drifts: Mapping[str, float]) -> list[str]:
    """The signals whose drift is beyond its limit, see `LIMITS`.

    Example:
        >>> beyond({"length": 0.4, "entropy": -2.0})
        ['entropy']
    """
    out = []
    for name, (up, down) in LIMITS.items():
        value = drifts.get(name, 0.0)
        if (up is not None and value > up) or (down is not None and value < -down):
            out.append(name)
    return out


def describe(step: int, name: str, first: First, signals: Signals, drift: float) -> str:
    """A warning in one line: what has drifted, from where to where, and what that means."""
    if name == "gap":
        change = f"{drift:.1f} standard deviations more of proxy than of gold"
    else:
        before = np.mean([s[name].mean for s in first.values() if name in s])
        change = f"{before:.3g} -> {signals[name].mean:.3g}"
        if name != "duplicates":
            change += f", {drift:+.1f} standard deviations of a response"
    return f"warning: update {step}: {name} has drifted ({change}): {MEANING[name]}"


class Monitor:
    """Watches a run: an `observe` of `irl_jax.train.online.train_online` calls it every update."""

    def __init__(self, rows: Iterable[Mapping[str, Any]] = (), file: TextIO | None = None):
        """Begins, or goes on after a restart.

        Args:
            rows: metrics of the run's earlier updates, as `RunDirectory.metrics` gives
                them: what was first stays first.
            file: takes the warnings; stderr if None.
        """
        self._file = file
        self._warned: set[str] = set()
        self._first: First = {}
        for row in rows:
            names = [k.removeprefix("watch_") for k in row if k.startswith("watch_")]
            if names:
                found = {n: Signal(row[f"watch_{n}"], row[f"spread_{n}"]) for n in names}
                self._first = {**self._first, row["step"]: found}

    def __call__(
        self, step: int, group: Group, *, members: Array | None = None, gold: Array | None = None
    ) -> dict[str, float]:
        """Warns of what is beyond its limit, once a signal.

        Args:
            step: number of the update, from 1.
            group: as `group_signals` reads it.
            members: f32[M, B, K].
            gold: f32[B, K].

        Returns:
            Metrics: `drift_NAME` of each signal (and of the gap, where gold is known),
            `warnings`, how many are beyond their limits; in the first updates
            `watch_NAME` and `spread_NAME`, too.
        """
        if step < 1:
            raise InputError(f"step: updates are counted from 1, got {step}")
        signals = group_signals(group, members=members, gold=gold)
        self._first, drifts = update(self._first, step, signals)
        found = beyond(drifts)
        for name in found:
            if name not in self._warned:
                self._warned.add(name)
                line = describe(step, name, self._first, signals, drifts[name])
                print(line, file=sys.stderr if self._file is None else self._file, flush=True)
        out = {f"drift_{name}": value for name, value in drifts.items()}
        if step <= FIRST:
            out |= {f"watch_{name}": s.mean for name, s in signals.items()}
            out |= {f"spread_{name}": s.spread for name, s in signals.items()}
        return out | {"warnings": float(len(found))}
