"""A chat template that ends a conversation with EOS, as rewards are trained to read it."""

from __future__ import annotations

import re
from dataclasses import replace

from irl_jax.data.chat import Message, render_chat
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.types import InputError

PROBE = [Message(role="user", content="a"), Message(role="assistant", content="b")]


def ended_template(template: str, tokens: dict[str, str], *, bos: bool = False) -> str:
    """A template that renders what another does, and then ends with exactly one EOS.

    White space behind the last EOS is left away, and an EOS that is missing is added; what is
    rendered for a generation stays as it is.

    Args:
        template: the other one.
        tokens: special tokens by name, `eos_token` among them.
        bos: whether a conversation that does not begin with BOS gets one.
    """
    try:
        text = render_chat(template, PROBE, add_generation_prompt=False, tokens=tokens)
    except InputError:  # such as one that wants a system turn
        text = ""
    if text.endswith(tokens["eos_token"]) and not bos:
        return template
    inner = template.removesuffix("\n")  # as Jinja does at the end of a template
    inner = inner.lstrip(" \t") if re.match(r"[ \t]+\{[%#]", inner) else inner  # likewise
    start = "{% if not rendered.startswith(bos_token) %}{{ bos_token }}{% endif %}" if bos else ""
    return (
        "{% set rendered %}{{ '' }}" + inner + "{{ '' }}{% endset %}" + start + "{% if "
        "add_generation_prompt %}{{ rendered }}{% elif rendered.rstrip().endswith(eos_token) %}"
        "{{ rendered.rstrip() }}{% else %}{{ rendered + eos_token }}{% endif %}"
    )


def reward_tokenizer(
    tokenizer: Tokenizer, template: str | None, add_bos: bool | None
) -> tuple[Tokenizer, int | None]:
    """The tokenizer that is written beside a reward model, and the id that pads its batches.

    transformers reads the last token that does not pad. A reward that was trained to be read at
    EOS so needs another token to pad with; of a tokenizer without one batches are refused there.

    Args:
        tokenizer: that the reward was trained with.
        template: chat template that it was trained with.
        add_bos: as `Encoder.add_bos` was.

    Returns:
        The tokenizer, with a template that ends with EOS if there is one; and the id, or None.
    """
    eos, bos = tokenizer.eos_token, tokenizer.bos_token
    known = tokenizer.backend.token_to_id
    others = [tokenizer.pad_token, dict(tokenizer.special).get("unk_token")]
    usable = [t for t in others if t is not None and t != eos and known(t) is not None]
    pad = usable[0] if usable else None
    if template is None:
        begins = tokenizer.add_bos if add_bos is None else add_bos
        return replace(tokenizer, pad_token=pad, add_bos=begins), _id(tokenizer, pad)
    if add_bos is None:
        add_bos = tokenizer.add_bos and template != tokenizer.chat_template
    ended = ended_template(
        template, dict(tokenizer.template_tokens), bos=add_bos and bos is not None
    )
    return replace(tokenizer, pad_token=pad, chat_template=ended), _id(tokenizer, pad)


def _id(tokenizer: Tokenizer, token: str | None) -> int | None:
    return None if token is None else tokenizer.backend.token_to_id(token)
