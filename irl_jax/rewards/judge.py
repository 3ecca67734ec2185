"""A language model as a judge: which of two responses is better, in log-odds of its verdict.

The judge reads a prompt that shows both responses and ends where its verdict begins, one
token. It is asked twice, with the responses in either order. Half the difference of the
two answers is what it thinks of the responses, half their sum what it thinks of the
places: a judge that favours the first place, by however much, is cured of it exactly.

Reference: Zheng et al. 2023, "Judging LLM-as-a-judge with MT-Bench and Chatbot Arena",
arXiv 2306.05685; Wang et al. 2023, "Large language models are not fair evaluators",
arXiv 2305.17926.
"""

from __future__ import annotations

import flax.struct
import jax.numpy as jnp
from jax import Array

from irl_jax.masking import as_float
from irl_jax.models.attention import soft_cap
from irl_jax.models.decoder import DecoderConfig, forward, project, unembedding
from irl_jax.types import Prompt, PyTree

VERDICTS = ("A", "B")
TEMPLATE = """Two people answered the same request. Decide whose answer is better.

Request:
{request}

Answer A:
{first}

Answer B:
{second}

Which answer is better, A or B? Reply with one letter."""


def comparison(request: str, first: str, second: str) -> str:
    """What the judge is asked, as the text of one message.

    Args:
        request: what was to be answered.
        first: the response that is shown as A.
        second: the response that is shown as B.
    """
    return TEMPLATE.format(request=request, first=first, second=second)


@flax.struct.dataclass
class Verdict:
    """What a judge said of B pairs, with the places taken out.

    Attributes:
        preference: f32[B], log-odds that the first response is better (nats); changes
            sign, exactly, where the responses are swapped.
        bias: f32[B], log-odds that the place shown first adds (nats).
    """

    preference: Array
    bias: Array

    @property
    def consistent(self) -> Array:
        """bool[B], whether both orders name the same response."""
        return jnp.abs(self.preference) > jnp.abs(self.bias)


def verdict(as_given: Array, swapped: Array) -> Verdict:
    """Two answers of a judge to one verdict: balanced over the orders.

    preference = (z − z') / 2, bias = (z + z') / 2.

    Args:
        as_given: z, f32[B], log-odds of the place shown first (nats), the first
            response there.
        swapped: z', f32[B], the same with the second response shown first.

    Returns:
        The verdict. If z = d + b and z' = −d + b, it is d and b.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Wang et al. 2023, "Large language models are not fair evaluators",
    arXiv 2305.17926 (balanced position calibration).

    Differs: log-odds are averaged, not scores that the judge writes.

    Example:
        >>> said = verdict(jnp.array([3.0]), jnp.array([1.0]))
        >>> float(said.preference[0]), float(said.bias[0]), bool(said.consistent[0])
        (1.0, 2.0, False)
    """
    as_given = as_float("as_given", as_given, (None,))
    swapped = as_float("swapped", swapped, as_given.shape)
    return Verdict(0.5 * (as_given - swapped), 0.5 * (as_given + swapped))


def verdict_log_odds(
    config: DecoderConfig, params: PyTree, prompt: Prompt, verdicts: tuple[int, int]
) -> Array:
    """log P(first verdict) − log P(second) as the next token, f32[B] (nats).

    The two share a softmax, so its sum cancels: only their two logits are computed.

    Args:
        config: the shape of the judge.
        params: parameters of the judge.
        prompt: B comparisons.
        verdicts: ids of the tokens that name the place shown first and the second, or two others.
    """
    hidden, _ = forward(config, params, prompt.tokens, mask=prompt.mask)
    kernel = unembedding(config, params)[:, jnp.asarray(verdicts)]
    both = soft_cap(project(hidden[:, -1], kernel), config.logit_softcap)
    return both[:, 0] - both[:, 1]
