"""What the files beside a vocabulary say: added tokens, BOS, exports, broken files."""

from __future__ import annotations

import json
import random

import pytest
from tokenizers import Tokenizer as Model
from tokenizers import processors

from irl_jax.data.encode import Encoder
from irl_jax.data.jsonl import DemonstrationRecord, PromptRecord
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.types import InputError
from tests.data.kinds import KINDS, TOKENS, sentence_pieces, write_config
from tests.data.strings import varied_strings

END = {"content": "<|end|>", "special": True, "rstrip": True, "normalized": False}
TOOL = {"content": "<tool>", "special": False, "lstrip": True, "normalized": False}
WORD = {"content": "pour", "special": False, "single_word": True, "normalized": False}
NEW = ["<|user|>", "<|end|>", "<tool>", "pour", "[PAD]", "<|mine|>"]
# what each file says besides the usual tokens: added_tokens.json, special_tokens_map.json,
# tokenizer_config.json; n is the first free id
SOURCES = {
    "added_tokens.json": lambda n: (
        {"<|user|>": n, "<|end|>": n + 1},
        {"additional_special_tokens": ["<|user|>"]},
        {},
    ),
    "decoder": lambda n: (
        {},
        {},
        {"added_tokens_decoder": {str(n): END, str(n + 1): TOOL, str(n + 2): WORD}},
    ),
    "additional": lambda n: (
        {},
        {},
        {"additional_special_tokens": ["<|user|>", {"__type": "AddedToken"} | END]},
    ),
    "extra": lambda n: ({}, {}, {"extra_special_tokens": ["<|user|>", "<|end|>"]}),
    "named": lambda n: ({}, {}, {"extra_special_tokens": {"mine_token": "<|mine|>"}}),
    "map": lambda n: ({}, {"pad_token": {"content": "[PAD]", "lstrip": True}}, {}),
}
EXPECTED = {
    "added_tokens.json": ["<|user|>", "<|end|>"],
    "decoder": ["<|end|>", "<tool>", "pour"],
    "additional": ["<|user|>", "<|end|>"],
    "extra": ["<|user|>", "<|end|>"],
    "named": ["<|mine|>"],
    "map": ["[PAD]"],
}


def make(directory, kind, source):
    """A directory of a kind whose further tokens stand in a source; the first free id."""
    KINDS[kind](directory)
    n = Tokenizer.from_directory(directory).vocab_size
    added, named, config = SOURCES[source](n)
    for name, content in [("added_tokens.json", added), ("special_tokens_map.json", named)]:
        if content:
            (directory / name).write_text(json.dumps(content))
    fields = json.loads((directory / "tokenizer_config.json").read_text())
    own = {} if kind == "byte-level" else {"tokenizer_class": "LlamaTokenizer"}
    write_config(directory, **(fields | own | config))
    return n


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", ["byte-level", "spm-bpe-prefix"])
def test_added_tokens_are_read_from_every_file(kind, source, tmp_path):
    n = make(tmp_path, kind, source)
    tokenizer = Tokenizer.from_directory(tmp_path)
    tokens = EXPECTED[source]
    assert [tokenizer.encode(f"It{token}x")[1:].count(n + i) for i, token in enumerate(tokens)]
    for i, token in enumerate(tokens):
        ids = tokenizer.encode(f"It {token}")
        assert ids[-1] == n + i
        assert tokenizer.backend.id_to_token(n + i) == token
        assert token in tokenizer.decode(ids, skip_special=False)
        if token not in ("<tool>", "pour"):
            hidden = token in ("<|user|>", "[PAD]", "<|mine|>") or source != "added_tokens.json"
            assert (token in tokenizer.decode(ids)) != hidden
    assert tokenizer.vocab_size == n + len(tokens)
    tokenizer.save(tmp_path / "again")
    again = Tokenizer.from_directory(tmp_path / "again")
    for text in varied_strings(NEW, 150):
        assert again.encode(text) == tokenizer.encode(text)


def test_flags_of_added_tokens_are_kept(tmp_path):
    for kind in ("byte-level", "spm-bpe"):
        make(tmp_path, kind, "decoder")
        tokenizer = Tokenizer.from_directory(tmp_path)
        end, tool = (tokenizer.backend.token_to_id(token) for token in ("<|end|>", "<tool>"))
        assert tokenizer.encode("<|end|> \n") == [end]  # rstrip
        assert tokenizer.encode(" \n<tool>") == [tool]  # lstrip
        assert tokenizer.backend.token_to_id("pour") in tokenizer.encode("it pour.")
        assert tokenizer.backend.token_to_id("pour") not in tokenizer.encode("it pours.")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", ["byte-level", "spm-bpe-prefix"])
def test_added_tokens_are_those_of_transformers(kind, source, tmp_path, transformers):
    make(tmp_path, kind, source)
    ours = Tokenizer.from_directory(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    strings = [text for text in varied_strings(NEW, 200) if not begins_with_space(text, NEW)]
    assert len(strings) > 100
    for text in strings:
        ids = ours.encode(text)
        assert ids == theirs.encode(text, add_special_tokens=False), text
        if source == "added_tokens.json":
            continue  # transformers 5 no longer takes the map's additional tokens for special
        shown = theirs.decode(ids, skip_special_tokens=True)
        assert [t in ours.decode(ids) for t in NEW] == [t in shown for t in NEW], text


def begins_with_space(text, symbols):
    """Whether a stretch begins with a space: transformers 5 puts no second one before it."""
    for symbol in (*symbols, "</s>", "<s>", "<unk>", "<|im_start|>", "<|im_end|>"):
        text = text.replace(symbol, "\0")
    return any(part[:1] in (" ", "▁") for part in text.split("\0"))


def test_an_id_that_a_token_cannot_get_is_refused(tmp_path):
    for kind in ("byte-level", "spm-bpe"):
        n = make(tmp_path, kind, "decoder")
        fields = json.loads((tmp_path / "tokenizer_config.json").read_text())
        write_config(tmp_path, **(fields | {"added_tokens_decoder": {str(n + 5): END}}))
        with pytest.raises(InputError, match=rf"'<\|end\|>' should be id {n + 5} and would be {n}"):
            Tokenizer.from_directory(tmp_path)


def test_a_models_own_template_is_made_of_its_control_tokens(tmp_path):
    n = make(tmp_path, "spm-bpe-prefix", "added_tokens.json")
    template = "{% for m in messages %}{{ '<|user|>' + m.content + '<|end|>' }}{% endfor %}"
    tokenizer = Tokenizer.from_directory(tmp_path)
    (item,) = Encoder(tokenizer, 99, 9, template=template).prompts([PromptRecord("It", {}, "f")])
    inner = tokenizer.backend.encode_continuation("It")
    assert item.prompt == [n, *inner, n + 1]


def processor(directory, single):
    """Gives tokenizer.json a post-processor."""
    file = directory / "tokenizer.json"
    model = Model.from_file(str(file))
    ids = [(token, model.token_to_id(token)) for token in ("<s>", "</s>")]
    model.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    model.save(str(file))


@pytest.mark.parametrize(
    ("kind", "single", "config", "add"),
    [
        ("byte-level", None, {}, False),
        ("byte-level", "<s> $A", {}, True),
        ("byte-level", "<s> $A </s>", {}, True),
        ("byte-level", "$A </s>", {}, False),
        ("spm-bpe-prefix", None, {"add_bos_token": True}, True),
        ("spm-bpe-prefix", None, {"add_bos_token": True, "add_eos_token": True}, True),
        ("spm-bpe-prefix", None, {"add_bos_token": False}, False),
        ("spm-bpe-prefix", None, {}, False),
    ],
)
def test_bos_begins_a_text_where_the_files_say_so(
    kind, single, config, add, tmp_path, record_property
):
    KINDS[kind](tmp_path)
    if single:
        processor(tmp_path, single)
    fields = json.loads((tmp_path / "tokenizer_config.json").read_text())
    write_config(tmp_path, **(fields | {"tokenizer_class": "LlamaTokenizer"} | config))
    tokenizer = Tokenizer.from_directory(tmp_path)
    assert tokenizer.add_bos == add
    record = DemonstrationRecord("It rains", " now", "f:1")
    bos = [tokenizer.bos_id] if add else []
    (item,) = Encoder(tokenizer, 50, 50).demonstrations([record])
    assert item.prompt == bos + tokenizer.encode("It rains")
    assert item.completion[-1] == tokenizer.eos_id
    assert tokenizer.bos_id not in item.completion
    for choice in (True, False):  # the override
        (item,) = Encoder(tokenizer, 50, 50, add_bos=choice).demonstrations([record])
        assert item.prompt[0] == tokenizer.bos_id if choice else tokenizer.bos_id not in item.prompt
    tokenizer.save(tmp_path / "again")
    assert Tokenizer.from_directory(tmp_path / "again").add_bos == add


def test_begins_as_transformers_begins(tmp_path, transformers):
    for n, (kind, single, config) in enumerate(
        [
            ("byte-level", None, {}),
            ("byte-level", "<s> $A", {}),
            ("spm-bpe", None, {"add_bos_token": True}),
            ("spm-bpe", None, {}),
        ]
    ):
        directory = tmp_path / str(n)
        directory.mkdir()
        KINDS[kind](directory)
        if single:
            processor(directory, single)
        name = "PreTrainedTokenizerFast" if kind == "byte-level" else "LlamaTokenizer"
        write_config(directory, tokenizer_class=name, add_prefix_space=False, **config)
        ours = Tokenizer.from_directory(directory)
        theirs = transformers.AutoTokenizer.from_pretrained(directory)
        assert ours.encode("It rains", add_bos=ours.add_bos) == theirs.encode("It rains")


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"tokenizer_class": "LlamaTokenizer", "legacy": True, "add_bos_token": True},
        {"tokenizer_class": "LlamaTokenizer", "legacy": False, "sp_model_kwargs": {}},
    ],
)
def test_export_of_sentencepiece_is_read_alike_by_transformers(
    kind, prefix, config, tmp_path, transformers
):
    sentence_pieces(tmp_path, kind, prefix=prefix, **config)
    ours = Tokenizer.from_directory(tmp_path)
    ours.save(tmp_path / "export")
    kept = json.loads((tmp_path / "export" / "tokenizer_config.json").read_text())
    assert {name: kept[name] for name in config} == config
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "export")
    again = Tokenizer.from_directory(tmp_path / "export")
    strings = varied_strings(["</s>", "<|im_start|>", "<s>"])
    compared = 0
    for text in strings:
        assert again.encode(text) == ours.encode(text)
        if not (prefix and begins_with_space(text, [])):
            assert theirs.encode(text, add_special_tokens=False) == ours.encode(text), text
            compared += 1
    assert compared > 200
    assert theirs.encode("a") == ours.encode("a", add_bos=ours.add_bos)
    assert theirs.eos_token_id == ours.eos_id and theirs.bos_token_id == ours.bos_id


BROKEN = {
    "model is a list": {"tokenizer.json": {"model": []}},
    "model of no kind": {"tokenizer.json": {"model": {"type": "Nothing"}}},
    "vocabulary of numbers": {"tokenizer.json": {"model": {"type": "BPE", "vocab": 3}}},
    "eos is a number": {"tokenizer_config.json": TOKENS | {"eos_token": {"content": 5}}},
    "decoder is a list": {"tokenizer_config.json": TOKENS | {"added_tokens_decoder": [1]}},
    "decoder without texts": {"tokenizer_config.json": TOKENS | {"added_tokens_decoder": {"1": 2}}},
    "extra is a number": {"tokenizer_config.json": TOKENS | {"extra_special_tokens": 7}},
    "template is a number": {"tokenizer_config.json": TOKENS | {"chat_template": 7}},
    "added ids are texts": {"added_tokens.json": {"<a>": "1"}},
    "map is no object": {"special_tokens_map.json": [1]},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_line_with_its_name(name, tmp_path):
    KINDS["byte-level"](tmp_path)
    ((file, content),) = BROKEN[name].items()
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        Tokenizer.from_directory(tmp_path)
    assert file in str(error.value) and "\n" not in str(error.value)


def test_a_template_that_is_not_utf8_is_named(tmp_path):
    KINDS["byte-level"](tmp_path)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe{{ messages }}")
    with pytest.raises(InputError, match=r"chat_template\.jinja: not UTF-8"):
        Tokenizer.from_directory(tmp_path)


def test_damaged_sentencepiece_bytes_are_refused_or_read(tmp_path):
    KINDS["spm-bpe"](tmp_path)
    file = tmp_path / "tokenizer.model"
    data, rng = file.read_bytes(), random.Random(0)
    refused = 0
    for i in range(120):
        damaged = bytearray(data[: rng.randrange(len(data))] if i % 3 == 0 else data)
        for _ in range(5 if i % 3 == 1 else 1):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        file.write_bytes(b"" if i == 0 else bytes(damaged))
        try:
            Tokenizer.from_directory(tmp_path).encode("It rains</s> in")
        except InputError as error:
            assert "tokenizer.model" in str(error) or "tokenizer:" in str(error)
            refused += 1
    assert refused > 60


def test_what_the_library_cannot_encode_is_one_line(tmp_path):
    KINDS["byte-level"](tmp_path)
    model = {"type": "WordLevel", "vocab": {"</s>": 0, "<s>": 1, "<unk>": 2}, "unk_token": "none"}
    state = json.loads((tmp_path / "tokenizer.json").read_text())
    state |= {"model": model, "added_tokens": [], "pre_tokenizer": None, "decoder": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    tokenizer = Tokenizer.from_directory(tmp_path)
    with pytest.raises(InputError, match=r"tokenizer\.json: .*it cannot encode this text"):
        tokenizer.encode("words")
