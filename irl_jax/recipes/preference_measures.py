"""What preferences taught, measured on held-out prompts: numbers and samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array

from irl_jax.data.batches import collate_preferences
from irl_jax.data.encode import EncodedPreference, EncodedPrompt
from irl_jax.eval.intervals import Interval, bootstrap, paired_difference
from irl_jax.eval.kl import sequence_kl
from irl_jax.eval.ranking import pair_accuracy
from irl_jax.losses.direct import log_ratio
from irl_jax.masking import check_range
from irl_jax.recipes.preference_data import as_text
from irl_jax.recipes.preference_reward import RewardModel, aggregate
from irl_jax.recipes.preference_training import Setup
from irl_jax.rewards.aggregate import disagreement
from irl_jax.train.progress import Advance
from irl_jax.train.run import RunDirectory
from irl_jax.train.shard import fetch
from irl_jax.types import Preference, PyTree

Item = TypeVar("Item")
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


@dataclass(frozen=True)
class Answers:
    """What a policy answered to P prompts, K times each.

    Attributes:
        text: [P][K].
        reward: f64[P, K], learned reward.
        disagreement: f64[P, K], standard deviation of the reward over its members.
        mask: bool[P, K, T].
        terminated: bool[P, K], whether the completion ended with EOS.
        logp: f32[P, K, T], log-probs under the policy that answered (nats).
        ref_logp: f32[P, K, T], log-probs under the reference (nats).
    """

    text: list[list[str]]
    reward: np.ndarray
    disagreement: np.ndarray
    mask: np.ndarray
    terminated: np.ndarray
    logp: np.ndarray
    ref_logp: np.ndarray

    @property
    def length(self) -> float:
        """Mean number of tokens of a completion."""
        return float(self.mask.sum(-1).mean())


def chunks(items: Sequence[Item], size: int) -> list[tuple[int, list[Item | None]]]:
    """This process's rows of each batch of `size` items: (number of items, rows).

    The last batch is filled up with None.
    """
    share = size // jax.process_count()
    mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    found = []
    for start in range(0, len(items), size):
        rows: list[Item | None] = list(items[start : start + size])
        found.append((len(rows), (rows + [None] * (size - len(rows)))[mine]))
    return found


def numbers_of(chunk: int, size: int) -> np.ndarray:
    """Numbers of the items that are this process's rows of a batch of `chunks`, i32.

    Args:
        chunk: number of the batch.
        size: of the batches.
    """
    share = size // jax.process_count()
    first = chunk * size + jax.process_index() * share
    return np.arange(first, first + share, dtype=np.int32)


def score_pairs(
    setup: Setup,
    pairs: Sequence[EncodedPreference],
    rewards: Callable[[Preference], Array],
    *,
    batch_size: int,
    advance: Advance,
) -> np.ndarray:
    """Rewards of pairs, f64[N, ..., 2].

    Args:
        setup: for the shape of batches.
        pairs: N pairs.
        rewards: batch of B pairs -> f32[B, ..., 2].
        batch_size: B.
        advance: told the number of pairs done.
    """
    found: list[np.ndarray] = []
    done = 0
    for count, rows in chunks(pairs, batch_size):
        pad_id = setup.model.tokenizer.pad_id
        batch = collate_preferences(rows, setup.pairs.shapes[-1], pad_id=pad_id)
        found.append(fetch(rewards(batch))[:count])
        done += count
        advance(done, {})
    return np.concatenate(found).astype(np.float64)


def implicit_rewards(setup: Setup, policy: PyTree, beta: float, batch: Preference) -> Array:
    """β log π/π_ref of the sides of pairs, f32[B, 2]; `policy` is a decoder's parameters."""
    logp, ref_logp = (setup.logp(params, batch, 1.0) for params in (policy, setup.model.params))
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


def answer(
    setup: Setup,
    policy: PyTree,
    prompts: Sequence[EncodedPrompt],
    learned: RewardModel,
    config: EvaluationConfig,
    advance: Advance,
) -> Answers:
    """Samples and scores completions; a prompt has the same random numbers for every policy.

    Args:
        setup: model, mesh, sampling.
        policy: parameters of the decoder that answers.
        prompts: P prompts.
        learned: the reward model.
        config: number of completions, size of batches.
        advance: told the number of prompts done.
    """
    text: list[list[str]] = []
    parts: list[tuple[np.ndarray, ...]] = []
    key = setup.key(3)
    for i, (count, rows) in enumerate(chunks(prompts, config.batch_size)):
        numbers = numbers_of(i, config.batch_size)
        group = setup.sample(policy, setup.prompts(rows), key, config.completions, numbers=numbers)
        ref_logp = setup.logp(setup.model.params, group, setup.sampling.temperature)
        each = learned.members(group)
        judged = (aggregate(each, learned.config), disagreement(each))
        arrays = (*judged, group.mask, group.terminated, group.logp, ref_logp)
        action, *rest = (x[:count] for x in fetch((group.action, *arrays)))
        decode = setup.model.tokenizer.decode
        masks = rest[2]
        text += [
            [decode(a[m]) for a, m in zip(*row, strict=True)]
            for row in zip(action, masks, strict=True)
        ]
        parts.append(tuple(rest))
        advance(len(text), {})
    reward, spread, *others = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Answers(text, reward.astype(np.float64), spread.astype(np.float64), *others)


def compare(before: Answers, after: Answers) -> dict[str, Any]:
    """How the policy changed, with intervals over prompts."""
    mean = lambda answers: answers.reward.mean(1)
    prompts, completions = after.reward.shape
    flat = lambda x: x.reshape(prompts * completions, -1)
    clusters = np.repeat(np.arange(prompts), completions)
    return {
        "reward_before": bootstrap(mean(before)),
        "reward_after": bootstrap(mean(after)),
        "reward_gain": paired_difference(mean(before), mean(after)),
        "kl": sequence_kl(flat(after.logp), flat(after.ref_logp), flat(after.mask), clusters),
        "length_before": before.length,
        "length_after": after.length,
        "terminated_before": float(before.terminated.mean()),
        "terminated_after": float(after.terminated.mean()),
    }


def compare_members(
    pairs: Sequence[EncodedPreference], rewards: np.ndarray, before: Answers, after: Answers
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
    spread = lambda answers: answers.disagreement.mean(1)
    ahead = rewards[..., 0] - rewards[..., 1]
    return {
        "accuracy": [accuracy_on(pairs, rewards[:, m]) for m in range(rewards.shape[1])],
        "pairs": bootstrap(ahead.std(1), clusters=prompt_labels(pairs)),
        "before": bootstrap(spread(before)),
        "after": bootstrap(spread(after)),
        "gain": paired_difference(spread(before), spread(after)),
    }


def write_samples(
    run: RunDirectory, step: int, prompts: Sequence[EncodedPrompt], before: Answers, after: Answers
) -> None:
    """The first completion of each prompt, before and after, to samples.jsonl."""
    run.rewind(0, HELD_OUT)
    for i, prompt in enumerate(prompts):
        row = {
            "prompt": as_text(prompt.record.prompt),
            "before": before.text[i][0],
            "after": after.text[i][0],
            "reward_before": before.reward[i, 0],
            "reward_after": after.reward[i, 0],
        }
        run.sample(step, row, HELD_OUT)


def held_out_rewards(
    setup: Setup, rewards: Callable[[Preference], Array], config: EvaluationConfig, advance: Advance
) -> np.ndarray:
    """Rewards of the held-out pairs, f64[N, ..., 2], as `score_pairs` takes them."""
    pairs, size = setup.pairs.held_out, config.batch_size
    return score_pairs(setup, pairs, rewards, batch_size=size, advance=advance)
