"""Which prompts are one to a model: those that it sees as the same text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from irl_jax.data.chat import Message, Text, render_chat
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.types import InputError


@dataclass(frozen=True)
class Identity:
    """The plainest form of a prompt that a template renders as it renders the prompt.

    A string and the user's message that it stands for have one form; so have prompts that
    differ in whitespace which the template takes away, or in a system message which it
    writes by itself. Without a template a prompt is its own form.

    Attributes:
        template: chat template, or None.
        tokens: special tokens by name, as `render_chat` takes them.

    Example:
        >>> same = Identity("{% for m in messages %}{{ m.content.strip() }}{% endfor %}", {})
        >>> same("Hi") == same([{"role": "user", "content": "Hi "}])
        True
    """

    template: str | None
    tokens: Mapping[str, str]

    @classmethod
    def of(cls, tokenizer: Tokenizer, template: str | None) -> Identity:
        """That of a tokenizer's model under a template."""
        return cls(template, tokenizer.template_tokens)

    def __call__(self, prompt: Text, tools: list[Any] | None = None) -> Text:
        """The form: messages with a template, the prompt itself without one.

        Args:
            prompt: plain text or messages.
            tools: that are offered with it.

        Raises:
            InputError: the template refuses the prompt.
        """
        if self.template is None:
            return prompt
        messages = [Message(role="user", content=prompt)] if isinstance(prompt, str) else [*prompt]
        text = self._render(messages, tools)
        found: list[Message] | None = messages
        while found is not None:
            messages = found
            found = next((m for m in plainer(messages) if self._renders(m, tools, text)), None)
        return messages

    def _render(self, messages: list[Message], tools: list[Any] | None) -> str:
        return render_chat(
            self.template, messages, add_generation_prompt=True, tokens=self.tokens, tools=tools
        )

    def _renders(self, messages: list[Message], tools: list[Any] | None, text: str) -> bool:
        try:
            return self._render(messages, tools) == text
        except InputError:  # a conversation that the template does not take
            return False


def plainer(messages: list[Message]) -> Iterator[list[Message]]:
    """Conversations that a template may render alike: each a step plainer than messages."""
    if len(messages) > 1 and messages[0]["role"] in ("system", "developer"):
        yield messages[1:]
    for i, message in enumerate(messages):
        bare = message["content"].strip()
        changes: list[dict[str, str]] = [{"content": bare}] if bare != message["content"] else []
        changes += [{"role": role} for role in PLAINER.get(message["role"], ())]
        for change in changes:
            changed = cast(Message, dict(message) | change)
            yield [*messages[:i], changed, *messages[i + 1 :]]


PLAINER = {"developer": ("system", "user"), "system": ("user",), "tool": ("user",)}
"""Role -> roles that a template may write alike."""
