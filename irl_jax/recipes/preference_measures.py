"""What preferences taught, measured on held-out prompts: numbers and samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import Array

from irl_jax.data.batches import collate_preferences
from irl_jax.data.encode import EncodedPreference, EncodedPrompt
from irl_jax.eval.intervals import Interval, bootstrap, paired_difference
from irl_jax.eval.ranking import pair_accuracy
from irl_jax.losses.direct import log_ratio
from irl_jax.masking import check_range
from irl_jax.models.mesh import fetch
from irl_jax.recipes.examples import Examples, as_text
from irl_jax.recipes.movement import policy_kl
from irl_jax.rollout.session import Completions, Session, chunks
from irl_jax.train.progress import Advance
from irl_jax.train.run import RunDirectory
from irl_jax.types import Preference, PyTree

HELD_OUT = "held_out"  # stage of the samples


@dataclass(frozen=True)
class EvaluationConfig:
    """How the policy is measured on held-out prompts."""

    prompts: int = 64  # held-out prompts that are answered, at most
    completions: int = 4  # completions of each prompt, before and after
    batch_size: int = 16  # pairs or prompts at a time

    def __post_init__(self) -> None:
        check_range("evaluation.prompts", self.prompts, 2)
        check_range("evaluation.completions", self.completions, 1)
        check_range("evaluation.batch_size", self.batch_size, 1)


def score_pairs(
    session: Session,
    pairs: Sequence[EncodedPreference],
    shape: tuple[int, ...],
    rewards: Callable[[Preference], Array],
    *,
    batch_size: int,
    advance: Advance,
) -> np.ndarray:
    """Rewards of pairs, f64[N, ..., 2].

    Args:
        session: the model whose tokens they are.
        pairs: N pairs.
        shape: of their batches, tokens of a prompt and of a completion.
        rewards: batch of B pairs -> f32[B, ..., 2].
        batch_size: B.
        advance: told the number of pairs done.
    """
    found: list[np.ndarray] = []
    done = 0
    for count, rows in chunks(pairs, batch_size):
        batch = collate_preferences(rows, shape, pad_id=session.model.tokenizer.pad_id)
        found.append(fetch(rewards(batch))[:count])
        done += count
        advance(done, {})
    return np.concatenate(found).astype(np.float64)


def implicit_rewards(session: Session, policy: PyTree, beta: float, batch: Preference) -> Array:
    """β log π/π_ref of the sides of pairs, f32[B, 2]; `policy` is a decoder's parameters."""
    logp, ref_logp = (session.logp(params, batch, 1.0) for params in (policy, session.model.params))
    return beta * log_ratio(logp, ref_logp, batch.mask)


def accuracy_on(pairs: Sequence[EncodedPreference], rewards: np.ndarray) -> Interval:
    """Weighted accuracy of rewards f64[N, 2], with an interval over prompts."""
    return pair_accuracy(rewards, [pair.weight for pair in pairs], prompt_labels(pairs))


def prompt_labels(pairs: Sequence[EncodedPreference]) -> np.ndarray:
    """Number of each pair's prompt, i64[N]."""
    return np.unique([repr(pair.prompt) for pair in pairs], return_inverse=True)[1]


def lengths(pairs: Sequence[EncodedPreference]) -> np.ndarray:
    """Tokens of both sides, f64[N, 2]: the reward of a reader who likes long answers."""
    return np.array([[len(pair.chosen), len(pair.rejected)] for pair in pairs], np.float64)


def compare(before: Completions, after: Completions) -> dict[str, Any]:
    """How the policy changed, with intervals over prompts."""
    mean = lambda answers: answers.values["reward"].mean(1)
    return {
        "reward_before": bootstrap(mean(before)),
        "reward_after": bootstrap(mean(after)),
        "reward_gain": paired_difference(mean(before), mean(after)),
        "kl": policy_kl(after),
        "length_before": before.length,
        "length_after": after.length,
        "terminated_before": float(before.terminated.mean()),
        "terminated_after": float(after.terminated.mean()),
    }


def compare_members(
    pairs: Sequence[EncodedPreference], rewards: np.ndarray, before: Completions, after: Completions
) -> dict[str, Any] | None:
    """What an ensemble's members say apart; None of a single reward model.

    Args:
        pairs: N held-out pairs.
        rewards: f64[N, M, 2], the members' rewards of them.
        before: answers of the model.
        after: answers of the policy.

    Returns:
        `accuracy`: of each member; `pairs`: standard deviation over members of the
        reward of chosen less rejected; `before`, `after`, `gain`: of the reward of an
        answer, and how it changed with the policy.
    """
    if rewards.shape[1] == 1:
        return None
    spread = lambda answers: answers.values["disagreement"].mean(1)
    ahead = rewards[..., 0] - rewards[..., 1]
    return {
        "accuracy": [accuracy_on(pairs, rewards[:, m]) for m in range(rewards.shape[1])],
        "pairs": bootstrap(ahead.std(1), clusters=prompt_labels(pairs)),
        "before": bootstrap(spread(before)),
        "after": bootstrap(spread(after)),
        "gain": paired_difference(spread(before), spread(after)),
    }


def write_samples(
    run: RunDirectory,
    step: int,
    prompts: Sequence[EncodedPrompt],
    before: Completions,
    after: Completions,
) -> None:
    """The first completion of each prompt, before and after, to samples.jsonl."""
    run.rewind(0, HELD_OUT)
    for i, prompt in enumerate(prompts):
        row = {
            "prompt": as_text(prompt.record.prompt),
            "before": before.text[i][0],
            "after": after.text[i][0],
            "reward_before": before.values["reward"][i, 0],
            "reward_after": after.values["reward"][i, 0],
        }
        run.sample(step, row, HELD_OUT)


def held_out_rewards(
    session: Session,
    pairs: Examples,
    rewards: Callable[[Preference], Array],
    config: EvaluationConfig,
    advance: Advance,
) -> np.ndarray:
    """Rewards of the held-out pairs, f64[N, ..., 2], as `score_pairs` takes them."""
    return score_pairs(
        session, pairs.held_out, pairs.shapes[-1], rewards,
        batch_size=config.batch_size, advance=advance,
    )  # fmt: skip
