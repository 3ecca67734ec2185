"""Judges of worked solutions: trained on labels of steps, or on outcomes.

A judge is an ensemble of small perceptrons on what the policy's own forward pass says of
a step: its hidden state there and its log-probs. The implicit one is a policy whose
log-ratio to the first is the reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.arithmetic.chain_sums import EOS, Solutions, decode
from irl_jax.losses.process import implicit_process, implicit_step_rewards, process_cross_entropy
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.logprob import completion_hidden, completion_logp
from irl_jax.rewards.embedding import EnsembleConfig, fit_ensemble, fit_members
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.steps import complete_prefixes
from irl_jax.train.progress import Progress
from irl_jax.types import Loss, Prompt, PyTree, Rating, StepLabels


@dataclass(frozen=True)
class JudgeConfig:
    """How judges are trained."""

    ensemble: EnsembleConfig = field(
        default_factory=lambda: EnsembleConfig(
            members=3, widths=(64,), steps=600, batch_size=256, lr=3e-3, weight_decay=0.01
        )
    )
    implicit: EnsembleConfig = field(
        default_factory=lambda: EnsembleConfig(
            members=1, widths=(), steps=200, batch_size=32, lr=1e-3, weight_decay=0.0
        )
    )
    beta: float = 0.1  # implicit reward a nat


def label_steps(
    config: DecoderConfig,
    params: PyTree,
    solutions: Solutions,
    key: Array,
    *,
    rollouts: int,
    sampling: Sampling,
    batch_size: int,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Labels of steps from rollouts of the policy.

    The last step of a solution needs none: its label is the outcome.

    Args:
        config: shape of the policy.
        params: parameters of the policy.
        solutions: Q questions, K solutions each.
        key: typed PRNG key.
        rollouts: of each prefix.
        sampling: how tokens are drawn.
        batch_size: prefixes at a time.
        progress: shows the prefixes done.

    Returns:
        `soft` and `hard` f32[Q, K, T], read at the ends of steps, and `tokens` i64[],
        how many were sampled.
    """
    end, outcome = solutions.end, solutions.right()
    prefixes, places = [], []
    for q, k, _, ids in solutions.each():
        asked = solutions.context.tokens[q][solutions.context.mask[q]].tolist()
        for t in np.flatnonzero(end[q, k])[:-1]:
            prefixes.append(asked + ids[: t + 1])
            places.append((q, k, t))

    def verify(i: int, ids: Sequence[int]) -> bool:
        answer = solutions.questions[places[i][0]].answer
        return ids[-1] == EOS and decode(ids).split("\n")[-1] == answer

    advance = progress.stage("rollouts", len(prefixes))
    completed = complete_prefixes(
        config,
        params,
        prefixes,
        verify,
        key,
        completions=rollouts,
        max_new_tokens=solutions.mask.shape[-1],
        sampling=sampling,
        eos_ids=(EOS,),
        batch_size=batch_size,
        advance=lambda done: advance(done, {}),
    )
    labels = {"tokens": np.array(completed.tokens)}
    for name, values in (("soft", completed.soft), ("hard", completed.hard)):
        labels[name] = np.where(end, outcome[..., None], 0.0).astype(np.float32)
        labels[name][tuple(np.transpose(places))] = values
    return labels


@dataclass(frozen=True)
class Steps:
    """The first S steps of each solution, and what the policy makes of them.

    Attributes:
        at: i64[Q, K, S], the token that ends a step.
        mask: bool[Q, K, S], which steps there are.
        features: f32[Q, K, S, F].
        logp: f64[Q, K], log-prob of the whole solution under the policy (nats).
    """

    at: np.ndarray
    mask: np.ndarray
    features: np.ndarray
    logp: np.ndarray

    def labelled(self, label: np.ndarray, *, only_last: bool = False) -> StepLabels:
        """Every solution a row of labelled steps.

        Args:
            label: f[Q, K, T], read where a step ends.
            only_last: judge only the last step, and with it the whole solution.
        """
        steps = self.mask.shape[-1]
        end = self.mask
        if only_last:
            end = end & (np.arange(steps) == end.sum(-1, keepdims=True) - 1)
        flat = lambda x: jnp.asarray(x).reshape(-1, steps)
        absent: Any = None
        return StepLabels(
            context=absent,
            action=absent,
            mask=flat(self.mask),
            end=flat(end),
            label=flat(np.take_along_axis(label, self.at, -1).astype(np.float32)),
            weight=jnp.ones(end[..., 0].size),
        )


@partial(jax.jit, static_argnames="config")
def _readings(
    config: DecoderConfig, params: PyTree, context: Prompt, action: Array, mask: Array, end: Array
) -> tuple[Array, Array]:
    """Features f32[Q, K, T, F] at each token, and log-probs of tokens f32[Q, K, T]."""
    hidden = completion_hidden(config, params, context, action)
    logp = jnp.where(mask, completion_logp(config, params, context, action), 0.0)
    step = implicit_step_rewards(logp, jnp.zeros_like(logp), mask, end, beta=1.0)
    least = jax.lax.cummin(logp, axis=logp.ndim - 1)
    said = jnp.stack([step, jnp.cumsum(logp, -1), least], axis=-1)
    return jnp.concatenate([hidden.astype(jnp.float32), said], axis=-1), logp


def read_steps(config: DecoderConfig, params: PyTree, solutions: Solutions, *, most: int) -> Steps:
    """What the policy makes of each step: its hidden state and log-probs there.

    Args:
        config: shape of the policy.
        params: parameters of the policy.
        solutions: Q questions, K solutions each.
        most: S; what a solution has beyond it is not judged.
    """
    end = solutions.end
    at = np.argsort(~end, axis=-1, kind="stable")[..., :most]
    parts = []
    for rows in np.array_split(np.arange(len(end)), max(1, end[..., 0].size // 2048)):
        context = jax.tree.map(lambda x, rows=rows: x[rows], solutions.context)
        features, logp = _readings(
            config, params, context, solutions.action[rows], solutions.mask[rows], end[rows]
        )
        picked = np.take_along_axis(np.asarray(features), at[rows][..., None], axis=-2)
        parts.append((picked, np.asarray(logp, np.float64).sum(-1)))
    features, logp = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Steps(at, np.take_along_axis(end, at, -1), features, logp)


def fit_judge(steps: Steps, labels: StepLabels, key: Array, *, judge: JudgeConfig) -> Any:
    """An ensemble of perceptrons that gives logits of "right so far" for features of steps."""
    features = jnp.asarray(steps.features).reshape(-1, *steps.features.shape[2:])
    fitted, _ = fit_ensemble(
        features, labels, key, config=judge.ensemble, loss=process_cross_entropy
    )
    return fitted


def judge_logits(fitted: Any, steps: Steps, length: int) -> np.ndarray:
    """What a judge says at the end of each step, f64[Q, K, T]; -10 beyond the last judged.

    Args:
        fitted: of `fit_judge`.
        steps: of solutions.
        length: T.
    """
    logits = np.asarray(fitted(jnp.asarray(steps.features)).mean(0), np.float64)
    out = np.full((*logits.shape[:2], length), -10.0)
    np.put_along_axis(out, steps.at, logits, axis=-1)
    return out


@partial(jax.jit, static_argnames=("config", "judge"))
def fit_implicit(
    config: DecoderConfig, params: PyTree, outcomes: Rating, key: Array, *, judge: JudgeConfig
) -> PyTree:
    """A policy whose log-ratio to `params` tells right outcomes from wrong ones.

    Args:
        config: shape of the policy.
        params: parameters of the policy: the reference, and where training starts.
        outcomes: a row a solution.
        key: typed PRNG key.
        judge: steps, optimizer and β.

    Returns:
        Parameters of the decoder.
    """

    def objective(trained: PyTree, batch: Rating) -> Loss:
        action = batch.action[:, None]
        logp, ref_logp = (
            completion_logp(config, p, batch.context, action)[:, 0] for p in (trained, params)
        )
        return implicit_process(logp, ref_logp, batch, beta=judge.beta)

    members, _ = fit_members(lambda key: params, objective, outcomes, key, config=judge.implicit)
    return jax.tree.map(lambda x: x[0], members)


def outcomes(solutions: Solutions) -> Rating:
    """Every solution a row, with its outcome."""
    q, k, t = solutions.mask.shape
    return Rating(
        context=jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x), k, axis=0), solutions.context),
        action=jnp.asarray(solutions.action).reshape(q * k, t),
        mask=jnp.asarray(solutions.mask).reshape(q * k, t),
        score=jnp.asarray(solutions.right(), jnp.float32).reshape(-1),
        weight=jnp.ones(q * k),
    )


@partial(jax.jit, static_argnames=("config", "beta"))
def implicit_rewards(
    config: DecoderConfig,
    implicit: PyTree,
    params: PyTree,
    context: Prompt,
    action: Array,
    mask: Array,
    end: Array,
    *,
    beta: float,
) -> Array:
    """The implicit reward of each step, f32[Q, K, T], at the ends of steps."""
    logp, ref_logp = (completion_logp(config, p, context, action) for p in (implicit, params))
    return implicit_step_rewards(logp, ref_logp, mask, end, beta=beta)
