"""The log of which prompt answered which question, and ways to learn a reward from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from irl_jax.data.fields import string
from irl_jax.data.lines import read_jsonl
from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.rewards.embedding import EnsembleConfig, fit_ensemble
from irl_jax.rewards.prompt import fit_prompt_reward
from irl_jax.types import InputError, Rating

# The zero-shot prompts of the authors' logs, in the order of the log.
PROMPTS = {
    "none": "The answer is:",
    "CoT": "Let's think step by step: ",
    "APE": "Let’s work this out in a step by step way to be sure we have the right answer: ",
    "discussion": (
        "3 experts are discussing the question with a panel discussion, trying to solve it step "
        "by step, and make sure the result is correct and avoid penalty: "
    ),
    "tree of thoughts": (
        "Imagine three different experts are answering this question. All experts will write "
        "down 1 step of their thinking, then share it with the group. Then all experts will go "
        "on to the next step, etc. If any expert realises they're wrong at any point then they "
        "leave"
    ),
    "decomposition": (
        "First, decompose the question into several sub-questions that needs to solve, and then "
        "solve each question step by step: "
    ),
}
PAPER = "question and prompt, MLP"  # the form of the paper, used for the subsets of prompts


@dataclass(frozen=True)
class Log:
    """Questions, and which prompt led to a right answer.

    Attributes:
        questions: N texts, those of the training set first.
        correct: f64[N, P].
        train: bool[N].
    """

    questions: list[str]
    correct: np.ndarray
    train: np.ndarray


def read(data: Path | None, gsm8k: Path | None) -> Log:
    """The log and the questions it is about.

    Raises:
        InputError: no path, no such file, or a log of another shape.
    """
    if data is None or gsm8k is None:
        name = "data: no log of prompts" if data is None else "gsm8k: no directory of questions"
        raise InputError(f"{name}; give --data LOG.npz --gsm8k DIR, see --help")
    try:
        with np.load(data, allow_pickle=False) as arrays:
            logs = [np.asarray(arrays[f"{part}_correct"], np.float64) for part in ("train", "test")]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{data}: no npz with train_correct and test_correct ({error})") from None
    questions: list[str] = []
    for part, log in zip(("train", "test"), logs, strict=True):
        path = gsm8k / f"{part}.jsonl"
        texts = [string(row, "question", f"{path}:{line}") for line, row in read_jsonl(path)]
        if log.ndim != 2 or len(log) != len(PROMPTS) or not 10 <= log.shape[1] <= len(texts):
            want = f"[{len(PROMPTS)}, 10 to {len(texts)}] for the questions of {path}"
            raise InputError(f"{data}: {part}_correct is {list(log.shape)}, expected {want}")
        questions += texts[: log.shape[1]]
    correct = np.concatenate(logs, axis=1).T
    return Log(questions, correct, np.arange(len(correct)) < logs[0].shape[1])


# questions f32[N, F], prompts f32[P, F], right f32[N, P], weight f32[N, P], key -> f32[N, P]
Fit = Callable[..., jax.Array]


def kinds(config: EnsembleConfig) -> dict[str, Fit]:
    """Name -> a way to learn P(right | question, prompt) from a log."""
    # A single layer must reach the log-odds by its bias, which AdamW's decay bounds.
    linear = replace(config, widths=(), lr=10 * config.lr, weight_decay=0.1 * config.weight_decay)

    def joint(config: EnsembleConfig, interaction: bool, q, p, right, weight, key) -> jax.Array:
        model, _ = fit_prompt_reward(
            q, p, right, weight, key, config=config, interaction=interaction
        )
        return model.probability(q, p)

    def separate(config: EnsembleConfig, q, p, right, weight, key) -> jax.Array:
        absent: Any = None

        def one(right, weight, key):
            rating = Rating(absent, absent, absent, score=right, weight=weight)
            model, _ = fit_ensemble(q, rating, key, config=config, loss=binary_cross_entropy)
            return jax.nn.sigmoid(model(q)).mean(0)

        keys = jax.random.split(key, right.shape[1])
        return jax.vmap(one, in_axes=(1, 1, 0), out_axes=1)(right, weight, keys)

    return {
        "question and prompt, linear": partial(joint, linear, False),
        PAPER: partial(joint, config, False),
        "with products, linear": partial(joint, linear, True),
        "with products, MLP": partial(joint, config, True),
        "a model per prompt, linear": partial(separate, linear),
        "a model per prompt, MLP": partial(separate, config),
    }


def fit_all(
    fit: Fit,
    vectors: dict[str, np.ndarray],
    correct: np.ndarray,
    weights: Iterable[np.ndarray],
    *,
    seed: int,
) -> Iterator[np.ndarray]:
    """Probabilities by a model for each weighting of the log, f32[N, P] each.

    Args:
        fit: see `kinds`.
        vectors: embeddings of questions and prompts.
        correct: f64[N, P].
        weights: bool[N, P] each, the entries of the log that a model learns from.
        seed: of the models.
    """
    learn = jax.jit(fit)
    arrays = [jnp.asarray(x, jnp.float32) for x in (*vectors.values(), correct)]
    for number, weight in enumerate(weights):
        key = jax.random.fold_in(jax.random.key(seed), number)
        yield np.asarray(learn(*arrays, jnp.asarray(weight, jnp.float32), key))
