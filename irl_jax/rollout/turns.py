"""Rollouts of several turns: a language model writes in environments of words.

A turn is sampled until its end, the environment's answer is appended, the next turn is sampled, for
all episodes at once. What the model wrote is kept as the tokens that it sampled; nothing is encoded
again. The prompt and all that was written before are read anew for each turn: N turns cost N passes
over the context, in one program of one shape. Of one process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.data.batches import collate_prompts
from irl_jax.data.chat import Message
from irl_jax.data.encode import EncodedPrompt
from irl_jax.data.jsonl import DemonstrationRecord, PromptRecord
from irl_jax.envs.text import TextEnv
from irl_jax.masking import check_range, check_shape
from irl_jax.rollout.session import LanguageModel
from irl_jax.types import Group, InputError, Prompt, Turns

# (prompts of R rows, typed PRNG key, numbers i32[R] of the rows) -> a completion of each, K = 1
Sample = Callable[[Prompt, Array, np.ndarray], Group]
PLACE = "environment"  # where what it says comes from, in messages


@dataclass(frozen=True)
class Words:
    """What an environment's words are to a model, and a model's tokens to an environment.

    Attributes:
        first: what is told first -> ids of the prompt, at least one.
        later: what is told after a turn -> ids, up to where the model is to write again.
        decode: ids of a turn, without what ends it -> what it says.
        end_ids: tokens that end a turn; the first follows one that was cut.
    """

    first: Callable[[str], Sequence[int]]
    later: Callable[[str], Sequence[int]]
    decode: Callable[[Sequence[int]], str]
    end_ids: tuple[int, ...]


def chat_words(model: LanguageModel) -> Words:
    """The words of a model that has a chat template: the environment speaks as the user.

    Control tokens that stand in what the environment says are letters.
    """
    room = model.config.max_positions
    encoder = replace(model.encoder(max_prompt=room, max_completion=room), control="text")

    def first(told: str) -> list[int]:
        return encoder.prompts([PromptRecord(told, {}, PLACE)])[0].prompt

    def later(told: str) -> list[int]:
        talk = (("assistant", "."), ("user", told), ("assistant", "."))
        turns = [Message(role=role, content=content) for role, content in talk]
        (row,) = encoder.demonstrations([DemonstrationRecord(".", turns, PLACE)])
        assert row.masks is not None
        return [i for i, own in zip(row.completion, row.masks[0], strict=True) if not own]

    return Words(first, later, model.tokenizer.decode, model.eos_ids)


class _Limits(NamedTuple):
    """What rows may hold.

    Attributes:
        prompt: tokens of what is told first.
        room: tokens before a turn begins.
        turns: of a row.
    """

    prompt: int
    room: int
    turns: int


@dataclass
class _Row:
    """What one player has heard and written; `tokens`, `number` and `logp` are of one length."""

    prompt: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    number: list[int] = field(default_factory=list)
    logp: list[float] = field(default_factory=list)
    reward: list[float] = field(default_factory=list)
    end: list[int] = field(default_factory=list)  # follows the last turn, if that was cut

    def begin(self, ids: Sequence[int], limits: _Limits) -> None:
        """Takes what is told first."""
        if not 0 < len(ids) <= limits.prompt:
            raise InputError(
                f"prompt_width: what is told first has {len(ids)} tokens, expected 1 to "
                f"{limits.prompt}; widen prompts"
            )
        self.prompt = list(ids)

    def write(self, ids: list[int], logp: list[float], end: list[int]) -> None:
        """Takes a turn."""
        self.reward.append(0.0)
        self._append(ids, len(self.reward), logp)
        self.end = end

    def hear(self, ids: Sequence[int], limits: _Limits) -> bool:
        """Takes what is told after a turn, if another turn is allowed and has room."""
        ids = [*self.end, *ids]
        if len(self.reward) == limits.turns or len(self.tokens) + len(ids) > limits.room:
            return False
        self._append(ids, 0, [0.0] * len(ids))
        return True

    def _append(self, ids: list[int], number: int, logp: list[float]) -> None:
        self.tokens += ids
        self.number += [number] * len(ids)
        self.logp += logp


class _Episode:
    """An environment and the row of each of its players.

    Attributes:
        rows: of the players.
        due: the player that is to write next; None once the episode is over or cut.
        over: whether the environment ended it.
    """

    def __init__(
        self, env: TextEnv, seed: int, words: Words, limits: _Limits, players: int
    ) -> None:
        self._env, self._words, self._limits = env, words, limits
        self.rows = [_Row() for _ in range(players)]
        self.over = False
        self.due: int | None = None
        self._tell(env.reset(seed))

    def _tell(self, told: str) -> None:
        """Tells who is to write next."""
        player, words = self._env.player, self._words
        if not 0 <= player < len(self.rows):
            raise InputError(
                f"players: player {player} of an environment is to write, but there are rows for "
                f"{len(self.rows)}; set players to 2"
            )
        row, self.due = self.rows[player], player
        if not row.prompt:
            row.begin(words.first(told), self._limits)
        elif not row.hear(words.later(told), self._limits):
            self.due = None

    def take(self, ids: list[int], logp: list[float]) -> None:
        """The turn of who is due, its tokens and their log-probs, and what comes of it."""
        assert self.due is not None
        writer, words = self.rows[self.due], self._words
        ended = ids[-1] in words.end_ids
        writer.write(ids, logp, [] if ended else [words.end_ids[0]])
        told, reward, self.over = self._env.step(words.decode(ids[:-1] if ended else ids))
        for row in self.rows:
            if row.reward:
                row.reward[-1] += reward if row is writer else -reward
        if self.over:
            self.due = None
        else:
            self._tell(told)


def roll_turns(
    sample: Sample,
    make: Callable[[], TextEnv],
    seeds: Sequence[int],
    words: Words,
    key: Array,
    *,
    prompt_width: int,
    length: int,
    max_new_tokens: int,
    turns: int,
    completions: int = 1,
    players: int = 1,
) -> Group:
    """Lets a model write in environments of words until each episode is over, or cut.

    Args:
        sample: draws a turn for each row. Of a `Session`: `lambda prompts, key, numbers:
            session.sample(params, prompts, key, 1, numbers=numbers)`.
        make: makes an environment, one for each episode.
        seeds: E of them.
        words: between the environments and the model.
        key: typed PRNG key. Each row draws by its own number, whatever the others do.
        prompt_width: tokens of what is told first, at most.
        length: T, tokens of all turns of a row and of what is told between them, at most.
        max_new_tokens: tokens of a turn, at most, as `sample` has it.
        turns: N, turns of a row, at most.
        completions: K, episodes of each seed, which must be told the same first.
        players: 1; or 2, each of which the model plays by what that one is told; then K is 1.

    Returns:
        `Group` of E x K, or of two players 2 E x 1, those of an episode one after the other; with
        `turns`. The reward of who wrote is taken from the last turn of the other player, if it had
        one; `reward` is the sum over turns. Episodes that were cut, by N turns or for want of room,
        are not `terminated`. A player that was told nothing has a row without a token.

    Raises:
        InputError: a number is out of range, what is told first is too long or differs within a
            seed, or `sample` gives turns of another size.
    """
    _check(seeds, length, max_new_tokens, turns, completions, players)
    limits = _Limits(prompt_width, length - max_new_tokens, turns)
    repeated = [seed for seed in seeds for _ in range(completions)]
    episodes = [_Episode(make(), seed, words, limits, players) for seed in repeated]
    rows = [row for episode in episodes for row in episode.rows]
    first = rows[::completions]
    if players == 1 and any(row.prompt != first[i // completions].prompt
                            for i, row in enumerate(rows)):  # fmt: skip
        raise InputError("make: episodes of one seed are told different things first")
    numbers = np.arange(len(rows), dtype=np.int32)
    turn = 0
    while due := {i * players + e.due: e for i, e in enumerate(episodes) if e.due is not None}:
        read = [row.prompt + row.tokens if i in due else [] for i, row in enumerate(rows)]
        prompts = _collate(read, prompt_width + limits.room)
        drawn = sample(prompts, jax.random.fold_in(key, turn), numbers)
        check_shape("max_new_tokens: turns of `sample`", drawn.action,
                    (len(rows), 1, max_new_tokens))  # fmt: skip
        action, mask, logp = jax.device_get((drawn.action, drawn.mask, drawn.logp))
        for i, episode in due.items():
            episode.take(action[i][mask[i]].tolist(), logp[i][mask[i]].tolist())
        turn += 1
    over = np.array([episode.over for episode in episodes for _ in episode.rows])
    number = _filled([row.number for row in rows], length, np.int32)
    reward = _filled([row.reward for row in rows], turns, np.float32)
    fold = lambda x: jnp.asarray(x).reshape(len(first), completions, *x.shape[1:])
    return Group(
        context=jax.tree.map(jnp.asarray, _collate([row.prompt for row in first], prompt_width)),
        action=fold(_filled([row.tokens for row in rows], length, np.int32)),
        mask=fold(number > 0),
        logp=fold(_filled([row.logp for row in rows], length, np.float32)),
        reward=fold(reward.sum(-1)),
        terminated=fold(over),
        turns=Turns(fold(number), fold(reward)),
    )


def _check(
    seeds: Sequence[int], length: int, max_new_tokens: int, turns: int, completions: int,
    players: int,
) -> None:  # fmt: skip
    """Raises `InputError` for numbers that `roll_turns` cannot do with."""
    check_range("max_new_tokens", max_new_tokens, 1)
    check_range("length", length, max_new_tokens)
    check_range("turns", turns, 1)
    check_range("completions", completions, 1)
    check_range("players", players, 1, 2)
    if not len(seeds):
        raise InputError("seeds: there are none; give at least one")
    if players == 2 and completions != 1:
        raise InputError(
            f"completions: got {completions}; two players are told different things, so that "
            "there is 1 of each prompt"
        )


def _collate(rows: Sequence[list[int]], width: int) -> Prompt:
    """Left-padded contexts; an empty one becomes a padding row."""
    items = [EncodedPrompt(ids, PromptRecord("", {}, PLACE)) if ids else None for ids in rows]
    return collate_prompts(items, (width,), pad_id=0)


def _filled(rows: Sequence[Sequence[float]], width: int, dtype: type) -> np.ndarray:
    """Rows of numbers as an array [R, width], right-padded with 0."""
    out: np.ndarray = np.zeros((len(rows), width), dtype)
    for row, values in zip(out, rows, strict=True):
        row[: len(values)] = values
    return out
