"""Conversations to text, through a tokenizer's chat template (Jinja)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any, NoReturn, NotRequired, TypedDict

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from irl_jax.data.refusals import one_line
from irl_jax.types import InputError

NO_TOKENS: Mapping[str, str] = MappingProxyType({})
ROLES = ("system", "developer", "user", "assistant", "tool")


class Message(TypedDict):
    """One turn of a conversation; what else than text it may hold, some templates show."""

    role: str
    content: str
    tool_calls: NotRequired[Any]
    function_call: NotRequired[Any]
    tool_call_id: NotRequired[Any]
    name: NotRequired[Any]
    reasoning_content: NotRequired[Any]
    reasoning: NotRequired[Any]
    thinking: NotRequired[Any]


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


# What a template, which is a user's program in a sandbox, can fail with.
_FAILURES = (
    jinja2.TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


def render_chat(
    template: str | None,
    messages: Text,
    *,
    add_generation_prompt: bool,
    tokens: Mapping[str, str] = NO_TOKENS,
    tools: list[Any] | None = None,
) -> str:
    """Text of a conversation, as the model was trained to see it.

    Args:
        template: the tokenizer's chat template.
        messages: list of `{"role", "content"}`; a string is one user message.
        add_generation_prompt: end with the header of the assistant's turn.
        tokens: special tokens by name (`bos_token`, ...), as `Tokenizer.template_tokens`
            has them. One that is not among them is undefined in the template.
        tools: what the model may call, as JSON schemas, for templates that show them.

    Raises:
        InputError: no template, a broken one, an unknown role, a conversation
            that the template refuses or fails at.

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
    conversation = as_messages(messages, "user")
    _check(conversation)
    try:
        return _compiled(template).render(
            messages=conversation,
            tools=tools,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **tokens,
        )
    except jinja2.TemplateSyntaxError as error:
        raise InputError(
            f"chat template, line {error.lineno}: {one_line(error)}; fix the template"
        ) from error
    except _FAILURES as error:
        roles = ", ".join(message["role"] for message in conversation)
        raise InputError(
            f"chat template: {one_line(error)}; it does not take a conversation of roles {roles}"
        ) from error


def split_chat(
    template: str | None,
    prompt: Text,
    completion: Text,
    *,
    tokens: Mapping[str, str] = NO_TOKENS,
    end: re.Pattern[str] | None = None,
    tools: list[Any] | None = None,
) -> list[str]:
    """Texts of a prompt and of its completion, which together are the template's.

    The prompt ends with the header of the assistant's turn. The completion
    stops before the EOS that ends its last turn, where the template writes one,
    so that a tokenized completion takes exactly one EOS, as when sampled. One
    that holds several turns of the assistant comes in pieces: a turn of the
    assistant with the control token that ends it, what comes before the next
    turn of the assistant (other turns, headers), and so on.

    Args:
        template: the tokenizer's chat template.
        prompt: messages, or a string for one user message.
        completion: messages, or a string for one assistant message.
        tokens: special tokens by name, `eos_token` among them if there is one.
        end: matches control tokens, which may end a turn; that of EOS if None.
        tools: as `render_chat` takes them.

    Returns:
        The prompt, then the assistant's turns (1, 3, ...) and what lies between them
        (2, 4, ...).

    Raises:
        InputError: as `render_chat`; the template changes what is there when it is
            followed by more; or the last message is not the assistant's.
    """
    eos = tokens.get("eos_token", "")
    end = re.compile(re.escape(eos)) if end is None else end
    start = as_messages(prompt, "user")
    turns = without_eos(as_messages(completion, "assistant"), eos)
    if {turn["role"] for turn in turns[:1] + turns[-1:]} != {"assistant"}:
        roles = ", ".join(turn["role"] for turn in turns) or "no message"
        raise InputError(
            f"the completion is {roles}; expected it to begin and end with an assistant message"
        )
    render = partial(render_chat, template, tokens=tokens, tools=tools)
    whole = render([*start, *turns], add_generation_prompt=False)
    pieces: list[str] = []
    place = 0
    for i, turn in enumerate(turns):
        if i and turn["role"] != "assistant":
            continue
        before = [*start, *turns[:i]]
        head = render(before, add_generation_prompt=True)
        last = i == len(turns) - 1
        through = whole if last else render([*before, turn], add_generation_prompt=False)
        tail = through[len(head) :]
        tail = _before_eos(tail, eos) if last else _with_end(tail, end)
        if not through.startswith(head) or not whole.startswith(head + tail) or place > len(head):
            raise InputError(
                "chat template: a prompt is not rendered alike with and without its completion; "
                "use a template that only appends"
            )
        pieces += [whole[place : len(head)], tail]
        place = len(head) + len(tail)
    return pieces


def as_messages(text: Text, role: str) -> list[Message]:
    """A conversation; a string is one message of a role."""
    return [Message(role=role, content=text)] if isinstance(text, str) else text


def without_eos(messages: Sequence[Message], eos: str) -> list[Message]:
    """Messages, those of the assistant not ended by EOS, which templates and encoders add."""
    return [
        message | {"content": strip_eos(message["content"], eos)}
        if message.get("role") == "assistant" and isinstance(message.get("content"), str)
        else message
        for message in messages
    ]


def strip_eos(text: str, eos: str) -> str:
    """A text without the EOS tokens at its end (and white space among and after them).

    Example:
        >>> strip_eos("4. </s></s>\\n", "</s>")
        '4. '
    """
    while eos and text.rstrip().endswith(eos):
        text = text.rstrip().removesuffix(eos)
    return text


def _before_eos(tail: str, eos: str) -> str:
    """What a last turn says before the EOS that ends it, if one does."""
    body, found, rest = tail.rpartition(eos) if eos else (tail, "", "")
    return body if found and not rest.strip() else tail


def _with_end(tail: str, end: re.Pattern[str]) -> str:
    """A turn up to the control token that ends it, without what a template adds."""
    found = [match for match in end.finditer(tail) if match.group()]
    return tail[: found[-1].end()] if found and not tail[found[-1].end() :].strip() else tail


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise InputError("messages: empty conversation; expected at least one message")
    for i, message in enumerate(messages):
        role = message.get("role")
        if role not in ROLES:
            raise InputError(f"messages[{i}].role: {role!r}; expected one of {', '.join(ROLES)}")
        if not isinstance(message.get("content"), str):
            raise InputError(f"messages[{i}].content: expected a string")
