"""A process reward model as a scorer: the probability that each step of a solution is right.

Each kind of `irl_jax.models.process_reward_files` reads a solution as its publishers have it read:

* `tokens`: the problem and each step end with a separator, are encoded one by one, and a step is
  read at its last token, as ProcessBench's code (`code/run_eval_prm_trl.py`) does it.
* `marked`: a conversation by the model's chat template, with `<extra_0>` behind each step.
* `words`: the problem, then "Step 1: ... ки" and so on, a line each, as in Math-Shepherd's file; +
  against - at each ки.

Reference: Zheng et al. 2024, "ProcessBench", arXiv 2412.06559; Zhang et al. 2025, arXiv 2501.07301;
Wang et al. 2023, "Math-Shepherd", arXiv 2312.08935.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax import Array

from irl_jax.data.chat import Message, render_chat
from irl_jax.data.encode import EncodedGroup
from irl_jax.data.packed import Rows, map_rows
from irl_jax.data.process_files import MARK
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.models.attention import soft_cap
from irl_jax.models.decoder import DecoderConfig, forward
from irl_jax.models.heads import apply_outputs
from irl_jax.models.mesh import make_mesh
from irl_jax.models.process_reward_files import (
    Kind,
    describe_process_reward,
    good_label,
    load_process_reward,
)
from irl_jax.models.vocabulary import check_vocabulary
from irl_jax.recipes.language_model import load_tokenizer
from irl_jax.recipes.read_config import ReadConfig
from irl_jax.train.progress import Progress
from irl_jax.types import InputError, PyTree

EXTRA = "<extra_0>"
SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
"""The system message of `Qwen2ForProcessRewardModel`'s cards."""

WORDS = ("+", "-")


@dataclass(frozen=True)
class Solution:
    """A problem and the steps of a solution of it.

    Attributes:
        problem: text.
        steps: texts, at least one.
        source: `FILE:LINE`.
    """

    problem: str
    steps: Sequence[str]
    source: str


# N solutions -> f64[S] of each, the probability that each of its S steps is right
StepScorer = Callable[[Sequence[Solution]], list[np.ndarray]]


@partial(jax.jit, static_argnames=("config", "good", "cap"))
def step_probabilities(
    config: DecoderConfig, params: PyTree, head: PyTree, rows: Rows, *, good: int, cap: float | None
) -> Array:
    """softmax(head(h))[good] at every token of packed rows, f32[B, W]."""
    hidden, _ = forward(config, params, rows.tokens, segment=rows.segment, branch=rows.branch)
    return jax.nn.softmax(soft_cap(apply_outputs(head, hidden), cap))[..., good]


def step_scorer(path: Path, config: ReadConfig, separator: str, progress: Progress) -> StepScorer:
    """The process reward model of a directory.

    Args:
        path: the directory.
        config: what is read of it.
        separator: behind the problem and each step, of the kind `tokens`.
        progress: shows the scoring.

    Raises:
        InputError: it is no process reward model, none of its labels is the right one, or its
            tokenizer has no token for the ends of steps.
    """
    kind, labels = describe_process_reward(path)
    good = good_label(labels, config.label, path)
    tokenizer = load_tokenizer(path if config.tokenizer is None else config.tokenizer)
    words = {word: token_of(tokenizer, word, path) for word in WORDS} if kind == "words" else {}
    read = reader_of(kind, tokenizer, separator, path)
    model = load_process_reward(path, make_mesh(1), config.dtype, words)
    check_vocabulary(path, tokenizer.vocab_size, model.config.vocab_size)
    shape = replace(model.config, dtype=config.dtype)
    function = partial(
        step_probabilities, shape, model.params, model.head, good=good, cap=model.cap
    )

    def score(solutions: Sequence[Solution]) -> list[np.ndarray]:
        rows = [read(one) for one in solutions]
        for one, (ids, ends) in zip(solutions, rows, strict=True):
            if len(ids) > shape.max_positions:
                raise InputError(
                    f"{one.source}: the solution has {len(ids)} tokens, over the model's "
                    f"{shape.max_positions}; leave the line out"
                )
            if len(ends) != len(one.steps) or not ends[0]:
                raise InputError(
                    f"{one.source}: {len(one.steps)} steps, but {len(ends)} tokens at which they "
                    "are judged; take the token that ends a step out of the texts"
                )
        values = map_rows(
            function,
            [
                EncodedGroup(ids[:1], [ids[1:]], one.source)
                for one, (ids, _) in zip(solutions, rows, strict=True)
            ],
            limit=shape.max_positions,
            batch_size=config.batch_size,
            pad_id=tokenizer.pad_id,
            advance=progress.stage("solutions", len(rows)),
        )
        return [
            each[np.array(ends) - 1].astype(np.float64)
            for (each,), (_, ends) in zip(values, rows, strict=True)
        ]

    return score


Reader = Callable[[Solution], tuple[list[int], list[int]]]
"""A solution to its ids and the places of the tokens at which its steps are read."""


def reader_of(kind: Kind, tokenizer: Tokenizer, separator: str, path: Path) -> Reader:
    """How models of a kind read solutions.

    Raises:
        InputError: the tokenizer lacks the token that ends a step.
    """
    if kind == "tokens":
        return partial(read_pieces, tokenizer, separator)
    end = token_of(tokenizer, EXTRA if kind == "marked" else MARK, path)
    text = partial(marked_text, tokenizer) if kind == "marked" else shepherd_text

    def read(solution: Solution) -> tuple[list[int], list[int]]:
        # a template of the model's own writes the BOS that it needs
        ids = tokenizer.encode(text(solution), add_bos=kind == "words" and tokenizer.add_bos)
        return ids, [i for i, token in enumerate(ids) if token == end]

    return read


def read_pieces(
    tokenizer: Tokenizer, separator: str, solution: Solution
) -> tuple[list[int], list[int]]:
    """`Reader` of the kind `tokens`."""
    ids = tokenizer.encode(solution.problem + separator, add_bos=tokenizer.add_bos)
    ends = []
    for step in tokenizer.encode_batch([step + separator for step in solution.steps]):
        ids += step
        ends.append(len(ids) - 1)
    return ids, ends


def marked_text(tokenizer: Tokenizer, solution: Solution) -> str:
    """A solution as `Qwen2ForProcessRewardModel` reads it."""
    messages = [
        Message(role="system", content=SYSTEM),
        Message(role="user", content=solution.problem),
        Message(role="assistant", content="".join(step + EXTRA for step in solution.steps)),
    ]
    try:
        return render_chat(
            tokenizer.chat_template, messages, add_generation_prompt=False,
            tokens=tokenizer.template_tokens,
        )  # fmt: skip
    except InputError as error:
        raise InputError(f"{solution.source}: {error}") from error


def shepherd_text(solution: Solution) -> str:
    """A solution as a model of Math-Shepherd reads it.

    Example:
        >>> shepherd_text(Solution("1 + 1?", ["Add.", "Step 2: It is 2."], ""))
        '1 + 1? Step 1: Add. ки\\nStep 2: It is 2. ки'
    """
    lines = [
        f"{'' if step.startswith('Step ') else f'Step {i}: '}{step} {MARK}"
        for i, step in enumerate(solution.steps, start=1)
    ]
    return f"{solution.problem} " + "\n".join(lines)


def token_of(tokenizer: Tokenizer, text: str, path: Path) -> int:
    """The token of a text, alone or at the start of a word.

    Raises:
        InputError: there is none.
    """
    ids = tokenizer.encode(text)
    if not ids or tokenizer.decode(ids[-1:], skip_special=False).strip() != text:
        raise InputError(
            f"{path}: the tokenizer has no token {text}, which the model reads; give the "
            "tokenizer that it was trained with, --read.tokenizer"
        )
    return ids[-1]
