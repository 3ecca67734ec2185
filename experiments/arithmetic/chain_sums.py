"""Sums to be worked out line by line: questions, solutions, and a small model that writes them.

A question is an expression of reasoning-gym's chain_sum, `12+7-5=`; its solution has a
line for each sum, `12+7=19`, `19-5=14`, and the answer `#14`. Every line is a step, and
arithmetic says which steps are right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np
import optax
from jax import Array

from irl_jax.data.batches import collate_demonstrations, collate_prompts, one_per_row
from irl_jax.data.encode import EncodedDemonstration, EncodedPrompt
from irl_jax.data.feeds import make_feed
from irl_jax.data.jsonl import PromptRecord
from irl_jax.models.decoder import DecoderConfig, init_params
from irl_jax.models.mesh import make_mesh
from irl_jax.models.sharding import RULES
from irl_jax.rollout.generate import generate
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.objectives import sft_objective
from irl_jax.train.offline import train_offline
from irl_jax.train.progress import Progress
from irl_jax.train.shard import jit_step, place
from irl_jax.train.state import init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import InputError, Prompt, PyTree

ALPHABET = "\n0123456789+-=#"  # ids 1, 2, ...
EOS = 0  # ends a solution; also fills
VOCABULARY = 1 + len(ALPHABET)
SPACING = 10_000_000  # reasoning-gym's question i of seed s is question 0 of seed s + i


@dataclass(frozen=True)
class Question:
    """A chain of sums.

    Attributes:
        text: the expression without spaces, and "=".
        lines: those of the solution.
    """

    text: str
    lines: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The last line."""
        return self.lines[-1]

    @property
    def solution(self) -> str:
        """All lines."""
        return "\n".join(self.lines)


def solve(expression: str) -> Question:
    """The question of an expression such as "12 + 7 - 5".

    Example:
        >>> solve("12 + 7 - 50").lines
        ('12+7=19', '19-50=-31', '#-31')
    """
    text = expression.replace(" ", "")
    total, *terms = re.findall(r"[+-]?\d+", text)
    lines = []
    for term in terms:
        result = int(total) + int(term)
        lines.append(f"{total}{term}={result}")
        total = str(result)
    return Question(f"{text}=", (*lines, f"#{total}"))


def questions(count: int, *, terms: int, digits: int, seed: int) -> list[Question]:
    """Questions of reasoning-gym, the same ones for the same seed; other seeds share none.

    Args:
        count: how many.
        terms: numbers in an expression.
        digits: of each number, at most.
        seed: of the questions.

    Raises:
        InputError: reasoning-gym is not installed.
    """
    try:
        import reasoning_gym
    except ImportError as error:
        raise InputError(
            'the questions need reasoning-gym: pip install "irl_jax[reasoning]"'
        ) from error
    tasks = reasoning_gym.create_dataset(
        "chain_sum",
        size=count,
        seed=seed * SPACING,
        min_terms=terms,
        max_terms=terms,
        min_digits=1,
        max_digits=digits,
    )
    return [solve(task["metadata"]["expression"]) for task in tasks]


def different(drawn: int, *, terms: int, digits: int) -> list[Question]:
    """The different questions among so many, in a fixed order."""
    found = questions(drawn, terms=terms, digits=digits, seed=0)
    return list({question.text: question for question in found}.values())


def encode(text: str) -> list[int]:
    """Ids of the characters."""
    return [1 + ALPHABET.index(character) for character in text]


def decode(ids: Sequence[int]) -> str:
    """The characters of ids, EOS left out."""
    return "".join(ALPHABET[i - 1] for i in ids if i != EOS)


def right_steps(question: Question, solution: str) -> list[bool]:
    """Whether the solution is still right after each of its lines.

    Example:
        >>> right_steps(solve("1 + 2 + 3"), "1+2=3\\n3+3=7\\n#7")
        [True, False, False]
    """
    lines = solution.split("\n")
    wanted = [*question.lines, *[None] * len(lines)]
    same = [line == want for line, want in zip(lines, wanted, strict=False)]
    return [bool(x) for x in np.logical_and.accumulate(same)]


def prompts(asked: Sequence[Question], width: int, given: Sequence[str] | None = None) -> Prompt:
    """Questions as a batch, i32[Q, width], left-padded; each with what is given of its solution."""
    texts = [question.text for question in asked]
    if given is not None:
        texts = [text + begun for text, begun in zip(texts, given, strict=True)]
    items = [EncodedPrompt(encode(text), PromptRecord(text, {}, text)) for text in texts]
    return collate_prompts(items, (width,), pad_id=0)


@dataclass(frozen=True)
class Solutions:
    """K solutions of each of Q questions.

    Attributes:
        questions: [Q].
        context: `Prompt` of Q rows.
        action: i32[Q, K, T].
        mask: bool[Q, K, T].
    """

    questions: list[Question]
    context: Prompt
    action: np.ndarray
    mask: np.ndarray

    @property
    def end(self) -> np.ndarray:
        """bool[Q, K, T], the last token of each step."""
        return step_ends(self.action, self.mask)

    @property
    def tokens(self) -> int:
        """Tokens of all solutions."""
        return int(self.mask.sum())

    def each(self) -> Iterator[tuple[int, int, Question, list[int]]]:
        """(row, k, question, ids of the solution)."""
        for q, k in np.ndindex(*self.mask.shape[:2]):
            yield q, k, self.questions[q], self.action[q, k][self.mask[q, k]].tolist()

    def answers(self) -> np.ndarray:
        """str[Q, K], the last line of each; "" if the solution was cut."""
        out = np.full(self.mask.shape[:2], "", dtype="U16")
        for q, k, _, ids in self.each():
            if ids[-1] == EOS:
                out[q, k] = decode(ids).split("\n")[-1]
        return out

    def right(self) -> np.ndarray:
        """f64[Q, K], 1 where the answer is right."""
        wanted = np.array([question.answer for question in self.questions])
        return (self.answers() == wanted[:, None]).astype(np.float64)

    def still_right(self) -> np.ndarray:
        """bool[Q, K, T], at the end of a step: whether all is right so far."""
        out = np.zeros(self.mask.shape, bool)
        for q, k, question, ids in self.each():
            at = np.flatnonzero(self.end[q, k])
            out[q, k, at] = right_steps(question, decode(ids))[: len(at)]
        return out


def sample(
    config: DecoderConfig,
    params: PyTree,
    asked: list[Question],
    key: Array,
    *,
    completions: int,
    width: int,
    max_new_tokens: int,
    sampling: Sampling,
) -> Solutions:
    """K solutions to each question.

    Args:
        config: shape of the policy.
        params: parameters of the policy.
        asked: Q questions.
        key: typed PRNG key.
        completions: K.
        width: tokens of a question, at most.
        max_new_tokens: T, tokens of a solution, at most.
        sampling: how tokens are drawn.
    """
    context = prompts(asked, width)
    group = generate(
        config,
        params,
        context,
        key,
        completions=completions,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        eos_ids=(EOS,),
    )
    action, mask = jax.device_get((group.action, group.mask))
    return Solutions(asked, context, action, mask)


def step_ends(action: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The last token of each line: its newline, or the last token of the solution.

    Args:
        action: i32[..., T].
        mask: bool[..., T], right-padded.

    Returns:
        bool[..., T].
    """
    following = np.concatenate([mask[..., 1:], np.zeros_like(mask[..., :1])], axis=-1)
    return mask & ((action == encode("\n")[0]) | ~following)


def policy_config(terms: int, digits: int, *, width: int, layers: int) -> DecoderConfig:
    """The shape of a model that reads a question and writes its solution."""
    return DecoderConfig(
        vocab_size=VOCABULARY,
        d_model=width,
        n_layers=layers,
        n_heads=4,
        n_kv_heads=4,
        head_dim=width // 4,
        d_ff=2 * width,
        max_positions=8 + prompt_tokens(terms, digits) + 2 * solution_tokens(terms, digits),
    )


def prompt_tokens(terms: int, digits: int) -> int:
    """Tokens of the longest question."""
    return terms * (digits + 1)


def solution_tokens(terms: int, digits: int) -> int:
    """Tokens of the longest right solution, EOS included, and a few to spare."""
    total = 1 + len(str(terms * (10**digits - 1)))
    return (terms - 1) * (2 * total + digits + 3) + total + 2


def train_policy(
    config: DecoderConfig,
    lessons: Iterable[tuple[list[int], list[int]]],
    *,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
    progress: Progress,
) -> PyTree:
    """Parameters of a model that was shown worked solutions.

    Args:
        config: its shape.
        lessons: ids of questions, and of their solutions with EOS.
        steps: updates.
        batch_size: solutions an update.
        lr: peak learning rate of Adam, cosine decay to 0.
        seed: of the parameters and of the order.
        progress: shows the updates.
    """
    rows = one_per_row(
        EncodedDemonstration(question, solution, f"lesson {i}")
        for i, (question, solution) in enumerate(lessons)
    )
    feed = make_feed(
        rows,
        lambda items, shape: collate_demonstrations(items, shape, pad_id=EOS),
        batch_size=batch_size,
        shapes=[(max(row.lengths[0] for row in rows),)],
        seed=seed,
        remainder="drop",
    )
    mesh = make_mesh(1)
    tx = optax.adam(optax.warmup_cosine_decay_schedule(0.0, lr, steps // 7, steps))
    init_key, key = jax.random.split(jax.random.key(seed))
    state = place(mesh, init_state(init_params(config, init_key), tx, key), RULES)
    step = jit_step(make_train_step(sft_objective(config), tx), mesh, state, RULES)
    state = train_offline(step, state, feed, steps=steps, progress=progress, stage=f"policy {seed}")
    feed.close()
    return jax.device_get(state.params)
