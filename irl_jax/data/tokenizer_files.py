"""What a model's directory says of its tokenizer, beside the vocabulary itself.

Special and added tokens are read as the library transformers reads them. Where
tokenizer_config.json has an `added_tokens_decoder`, it says which tokens there are beside
the vocabulary file and what special_tokens_map.json says only fills gaps. Where it has none,
special_tokens_map.json goes before it, and added_tokens.json names the added tokens. Tokens
that are named as special (`pad_token`, `extra_special_tokens`, ...) and are in neither get
the next free ids, in this order; one that the vocabulary file has keeps its flags. A declared
id that a token cannot get is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from irl_jax.files import read_object, read_text
from irl_jax.types import InputError

CONFIG = "tokenizer_config.json"
WHOLE = "expected a whole tokenizer directory"
"""What to do about a file of a tokenizer that cannot be read."""
_EXTRA = ("extra_special_tokens", "additional_special_tokens")


@dataclass(frozen=True)
class Description:
    """What the files beside a vocabulary say.

    Attributes:
        config: the fields of tokenizer_config.json.
        special: special tokens by name (`eos_token`, ...), those alone that there are.
        added: tokens beside the vocabulary file's own, in order, with their ids if declared.
        chat_template: Jinja template, if there is one.
    """

    config: dict[str, Any]
    special: dict[str, str]
    added: list[tuple[int | None, AddedToken]]
    chat_template: str | None


def describe(directory: Path) -> Description:
    """Reads the files beside a vocabulary.

    Raises:
        InputError: tokenizer_config.json is missing, or a file cannot be read.
    """
    config = read_object(directory / CONFIG, WHOLE)
    named = _optional(directory / "special_tokens_map.json")
    if "added_tokens_decoder" in config:
        fields = named | config
        declared = _decoder(config["added_tokens_decoder"], directory / CONFIG)
    else:
        fields = config | named
        declared = {}
    place = directory / CONFIG
    special = {
        name: _symbol(value, True, place, name)
        for name, value in fields.items()
        if name.endswith("_token") and isinstance(value, str | dict)
    }
    extra: list[AddedToken] = []
    for name in _EXTRA:
        value = fields.get(name) or []
        if isinstance(value, dict):
            special |= {key: _symbol(each, True, place, name) for key, each in value.items()}
        elif isinstance(value, list):
            extra += [_symbol(each, True, place, name) for each in value]
        else:
            raise InputError(f"{place}: `{name}` is {value!r}; expected a list of tokens")
    if "added_tokens_decoder" not in config:
        texts = {token.content for token in (*special.values(), *extra)}
        declared = _encoder(directory / "added_tokens.json", texts)
    return Description(
        config,
        {name: token.content for name, token in special.items()},
        _in_order(declared, [*special.values(), *extra]),
        _template(directory, config),
    )


def _in_order(
    declared: Mapping[int, AddedToken], named: list[AddedToken]
) -> list[tuple[int | None, AddedToken]]:
    """Declared tokens by id, then the named ones that are not declared."""
    found: list[tuple[int | None, AddedToken]] = [(i, declared[i]) for i in sorted(declared)]
    known = {token.content for token in declared.values()}
    for token in named:
        if token.content not in known:
            found.append((None, token))
            known.add(token.content)
    return found


def _decoder(value: Any, place: Path) -> dict[int, AddedToken]:
    """`added_tokens_decoder`: id -> token."""
    if not isinstance(value, dict) or not all(str(i).isdecimal() for i in value):
        raise InputError(f"{place}: `added_tokens_decoder` is no object of ids; fetch it again")
    return {
        int(i): _symbol(each, False, place, f"added_tokens_decoder[{i}]")
        for i, each in value.items()
    }


def _encoder(file: Path, special: set[str]) -> dict[int, AddedToken]:
    """added_tokens.json: token -> id; those that are named are special."""
    found = {}
    for text, i in _optional(file).items():
        if not isinstance(i, int):
            raise InputError(f"{file}: the id of {text!r} is {i!r}; expected a whole number")
        found[i] = AddedToken(text, special=text in special, normalized=text not in special)
    return found


def _optional(file: Path) -> dict[str, Any]:
    return read_object(file, WHOLE) if file.exists() else {}


def _symbol(value: Any, special: bool, place: Path, name: str) -> AddedToken:
    """A token written as a string or as an object with its flags."""
    text = value.get("content") if isinstance(value, dict) else value
    if not isinstance(text, str) or not text:
        raise InputError(f"{place}: `{name}` is {value!r}; expected a token's text")
    given = value if isinstance(value, dict) else {}
    special = special or bool(given.get("special", False))
    return AddedToken(
        text,
        special=special,
        single_word=bool(given.get("single_word", False)),
        lstrip=bool(given.get("lstrip", False)),
        rstrip=bool(given.get("rstrip", False)),
        normalized=bool(given.get("normalized", not special)),
    )


def _template(directory: Path, config: dict[str, Any]) -> str | None:
    file = directory / "chat_template.jinja"
    if file.exists():
        return read_text(file, WHOLE)
    template = config.get("chat_template")
    if isinstance(template, list):  # several, each with its name
        entries = [each for each in template if isinstance(each, dict)]
        template = {each.get("name"): each.get("template") for each in entries}.get("default")
    if template is not None and not isinstance(template, str):
        raise InputError(f"{directory / CONFIG}: `chat_template` is no text; fetch the file again")
    return template
