"""A language model asked which of two words comes next, as in which of two answers is better."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from irl_jax.data.batches import collate_prompts
from irl_jax.data.encode import Encoder
from irl_jax.data.jsonl import DemonstrationRecord, PromptRecord
from irl_jax.rewards.judge import VERDICTS, Verdict, comparison, verdict, verdict_log_odds
from irl_jax.rollout.session import LanguageModel
from irl_jax.train.progress import Advance
from irl_jax.types import InputError, Prompt, PyTree

MULTIPLE = 128  # tokens; widths of batches are rounded up to it


def ask(
    model: LanguageModel,
    pairs: Sequence[tuple[str, str, str]],
    *,
    max_prompt: int,
    batch_size: int,
    advance: Advance,
) -> Verdict:
    """What the model says of each of N pairs.

    Args:
        model: the judge.
        pairs: N times (request, first answer, second answer).
        max_prompt: tokens of a comparison, at most; a longer one loses its beginning.
        batch_size: comparisons at a time.
        advance: told the number of comparisons done, two a pair.

    Raises:
        InputError: the two verdicts begin with one token.
    """
    encoder = model.encoder(max_prompt=max_prompt, max_completion=1, overlong="truncate")
    shown = [comparison(*pair) for pair in pairs]
    shown += [comparison(request, b, a) for request, a, b in pairs]
    prompts = [PromptRecord(text, {}, "judge") for text in shown]
    out = word_log_odds(model, encoder, prompts, VERDICTS, batch_size=batch_size, advance=advance)
    as_given, swapped = jnp.asarray(out).reshape(2, -1)
    return verdict(as_given, swapped)


def word_log_odds(
    model: LanguageModel,
    encoder: Encoder,
    prompts: Sequence[PromptRecord],
    words: tuple[str, str],
    *,
    batch_size: int,
    advance: Advance,
) -> np.ndarray:
    """log P(first word) − log P(second) as what follows each of N prompts, f32[N] (nats).

    Args:
        model: the judge.
        encoder: how it reads a prompt.
        prompts: what it is asked.
        words: two answers, of which the first token is read.
        batch_size: prompts at a time.
        advance: told the number of prompts done.

    Raises:
        InputError: the two words begin with one token.
    """
    first, second = (
        said.completion[0]
        for said in encoder.demonstrations(
            DemonstrationRecord(prompts[0].prompt, each, prompts[0].source) for each in words
        )
    )
    if first == second:
        raise InputError(f"judge: {' and '.join(words)} begin with one token in this tokenizer")
    encoded = encoder.prompts(prompts)
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].prompt))
    params = jax.tree.map(jnp.asarray, model.params)

    @jax.jit
    def said(params: PyTree, prompt: Prompt) -> jax.Array:
        return verdict_log_odds(model.config, params, prompt, (first, second))

    out = np.zeros(len(encoded), np.float32)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        width = -(-len(encoded[rows[-1]].prompt) // MULTIPLE) * MULTIPLE
        items = [*(encoded[i] for i in rows), *[None] * (batch_size - len(rows))]
        batch = collate_prompts(items, (width,), pad_id=model.tokenizer.pad_id)
        out[rows] = said(params, batch)[: len(rows)]
        advance(start + len(rows), {})
    return out
