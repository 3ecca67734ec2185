"""Conversations to text, through a tokenizer's chat template (Jinja)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn, TypedDict

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from irl_jax.types import InputError

ROLES = ("system", "developer", "user", "assistant", "tool")


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


Text = str | list[Message]  # plain text, or a conversation

# The layout of Anthropic's HH-RLHF dialogues, for models without a template.
DIALOGUE_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '\n\n' + ('Assistant' if message.role == 'assistant' else 'Human') + ':' }}"
    "{{ ' ' + message.content }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}`, which renders what it holds."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _tojson(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=options.pop("ensure_ascii", False), **options)


@lru_cache(maxsize=32)
def _compiled(template: str) -> jinja2.Template:
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, "jinja2.ext.loopcontrols"],
    )
    env.filters["tojson"] = _tojson
    env.globals["raise_exception"] = _raise_exception
    env.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
    return env.from_string(template)


def render_chat(
    template: str | None,
    messages: Text,
    *,
    add_generation_prompt: bool,
    bos_token: str = "",
    eos_token: str = "",
) -> str:
    """Text of a conversation, as the model was trained to see it.

    Args:
        template: the tokenizer's chat template.
        messages: list of `{"role", "content"}`; a string is one user message.
        add_generation_prompt: end with the header of the assistant's turn.
        bos_token: text of the BOS token, for templates that write it.
        eos_token: text of the EOS token, likewise.

    Raises:
        InputError: no template, a broken one, an unknown role, a conversation
            that the template refuses.

    Example:
        >>> t = "{% for m in messages %}{{ m.role }}: {{ m.content }}\\n{% endfor %}"
        >>> render_chat(t, "Hi", add_generation_prompt=False)
        'user: Hi\\n'
    """
    if template is None:
        raise InputError(
            "chat template: the tokenizer has none; use an instruction-tuned model's tokenizer "
            "or pass a template such as irl_jax.data.chat.DIALOGUE_TEMPLATE"
        )
    conversation = (
        [Message(role="user", content=messages)] if isinstance(messages, str) else messages
    )
    _check(conversation)
    try:
        return _compiled(template).render(
            messages=conversation,
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            bos_token=bos_token,
            eos_token=eos_token,
        )
    except jinja2.TemplateSyntaxError as error:
        raise InputError(
            f"chat template, line {error.lineno}: {error.message}; mend the template"
        ) from error
    except (jinja2.TemplateError, TypeError) as error:
        roles = ", ".join(message["role"] for message in conversation)
        raise InputError(
            f"chat template: {error}; it does not take a conversation of roles {roles}"
        ) from error


def split_chat(
    template: str | None,
    prompt: Text,
    completion: Text,
    *,
    bos_token: str = "",
    eos_token: str = "",
) -> tuple[str, str]:
    """Texts of a prompt and of its completion, which together are the template's.

    The prompt ends with the header of the assistant's turn. The completion
    stops before the EOS that ends its last turn, where the template writes one,
    so that a tokenized completion takes exactly one EOS, as when sampled.

    Args:
        template: the tokenizer's chat template.
        prompt: messages, or a string for one user message.
        completion: messages, or a string for one assistant message.
        bos_token: text of the BOS token.
        eos_token: text of the EOS token.

    Raises:
        InputError: as `render_chat`; or the template changes the prompt when it
            is followed by the completion.
    """
    start = [Message(role="user", content=prompt)] if isinstance(prompt, str) else prompt
    end = (
        [Message(role="assistant", content=completion)]
        if isinstance(completion, str)
        else completion
    )
    tokens = {"bos_token": bos_token, "eos_token": eos_token}
    head = render_chat(template, start, add_generation_prompt=True, **tokens)
    whole = render_chat(template, [*start, *end], add_generation_prompt=False, **tokens)
    if not whole.startswith(head):
        raise InputError(
            "chat template: a prompt is not rendered alike with and without its completion; "
            "use a template that only appends"
        )
    tail = whole[len(head) :]
    body, found, rest = tail.rpartition(eos_token) if eos_token else (tail, "", "")
    return head, body if found and not rest.strip() else tail


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise InputError("messages: empty conversation; expected at least one message")
    for i, message in enumerate(messages):
        role = message.get("role")
        if role not in ROLES:
            raise InputError(f"messages[{i}].role: {role!r}; expected one of {', '.join(ROLES)}")
        if not isinstance(message.get("content"), str):
            raise InputError(f"messages[{i}].content: expected a string")
