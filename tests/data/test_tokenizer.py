"""Tokenizers against transformers, sentencepiece and a plain-Python BPE."""

from __future__ import annotations

import copy
import json
import sys

import numpy as np
import pytest
import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from irl_jax.data.gguf_tokenizer import _metadata
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.types import InputError
from tests.data.byte_bpe import ByteBpe, kind
from tests.data.conftest import CORPUS
from tests.data.strings import varied_strings

SMOLLM2_SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<file_sep>"]
SPM_SPECIAL = ["<|user|>", "<|assistant|>", "</s>", "<s>"]


def test_gguf_ids_are_those_of_plain_python_bpe(smollm2, smollm2_gguf):
    fields = _metadata(smollm2_gguf)
    tokens = fields["tokenizer.ggml.tokens"]
    control = zip(tokens, fields["tokenizer.ggml.token_type"], strict=True)
    special = [token for token, kind in control if kind == 3]
    oracle = ByteBpe(tokens, fields["tokenizer.ggml.merges"], special)
    strings = varied_strings(SMOLLM2_SPECIAL)
    assert len(set(strings)) >= 200
    ids = smollm2.encode_batch(strings)
    assert {s: i for s, i in zip(strings, ids, strict=True)} == {
        s: oracle.encode(s) for s in strings
    }


@pytest.mark.slow
def test_gguf_ids_are_those_of_transformers(smollm2, smollm2_reference):
    strings = varied_strings(SMOLLM2_SPECIAL)
    reference = copy.deepcopy(smollm2_reference)
    # transformers reads every GGUF BPE with GPT-2's pre-tokenizer, and so does not
    # cut numbers as SmolLM2's own tokenizer.json does
    numberless = [s for s in strings if not any(kind(char) == "number" for char in s)]
    assert smollm2.encode_batch(numberless) == [reference.encode(s) for s in numberless]
    reference.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    assert smollm2.encode_batch(strings) == [reference.encode(s) for s in strings]
    for ids in smollm2.encode_batch(strings):
        for skip in (True, False):
            assert smollm2.decode(ids, skip) == reference.decode(ids, skip_special_tokens=skip)


def test_gguf_special_tokens(smollm2):
    assert (smollm2.bos_id, smollm2.eos_id, smollm2.pad_id) == (1, 2, 2)
    assert (smollm2.bos_token, smollm2.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert smollm2.vocab_size == 49152
    assert smollm2.encode("<|im_start|>user") == [1, *smollm2.encode("user")]
    assert smollm2.decode([1, *smollm2.encode("hi there"), 2]) == "hi there"
    assert smollm2.encode("a", add_bos=True, add_eos=True) == [1, *smollm2.encode("a"), 2]
    assert "<|im_start|>" in smollm2.chat_template


@pytest.mark.parametrize("name", ["smollm2", "spm"])
def test_round_trip(name, request):
    tokenizer = request.getfixturevalue(name)
    for text in varied_strings(SMOLLM2_SPECIAL if name == "smollm2" else SPM_SPECIAL):
        assert tokenizer.decode(tokenizer.encode(text), skip_special=False) == text
    assert tokenizer.decode(np.array(tokenizer.encode("an array"), np.int32)) == "an array"


def test_saved_gguf_tokenizer_loads_here_and_in_transformers(smollm2, transformers, tmp_path):
    smollm2.save(tmp_path)
    again = Tokenizer.from_directory(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    strings = varied_strings(SMOLLM2_SPECIAL)
    ids = smollm2.encode_batch(strings)
    assert again.encode_batch(strings) == ids
    assert [theirs.encode(s, add_special_tokens=False) for s in strings] == ids
    assert again.chat_template == theirs.chat_template == smollm2.chat_template
    assert theirs.eos_token_id == again.eos_id == 2
    assert theirs.pad_token_id == again.pad_id == 2
    assert theirs.bos_token_id == again.bos_id == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.fixture(scope="module")
def bpe_directory(tmp_path_factory):
    """A tokenizer.json that adds BOS, pads and truncates when it is asked to encode."""
    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<begin>", "<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(CORPUS, trainer)
    model.add_tokens(["<tool>"])
    model.post_processor = processors.TemplateProcessing(
        single="<begin> $A", special_tokens=[("<begin>", 0)]
    )
    model.enable_padding(length=20, pad_id=1, pad_token="<end>")
    model.enable_truncation(max_length=4)
    directory = tmp_path_factory.mktemp("bpe")
    model.save(str(directory / "tokenizer.json"))
    config = {
        "bos_token": {"__type": "AddedToken", "content": "<begin>", "special": True},
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    (directory / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<end>"}))
    (directory / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return directory


def test_tokenizer_json_ids_are_those_of_transformers(bpe_directory, transformers):
    ours = Tokenizer.from_directory(bpe_directory)
    theirs = transformers.AutoTokenizer.from_pretrained(bpe_directory)
    for text in varied_strings(["<begin>", "<end>", "<tool>"]):
        ids = ours.encode(text)
        assert ids == theirs.encode(text, add_special_tokens=False)
        assert ours.decode(ids, skip_special=False) == text
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert (ours.bos_id, ours.eos_id, ours.pad_id) == (0, 1, 1)
    assert ours.vocab_size == len(theirs)
    assert ours.chat_template == "{{ messages[0].content }}"


def test_sentencepiece_ids_are_its_own(spm, spm_directory):
    own = sentencepiece.SentencePieceProcessor(model_file=str(spm_directory / "tokenizer.model"))
    strings = varied_strings([])
    assert spm.encode_batch(strings) == own.encode(strings)
    assert [spm.decode(ids) for ids in own.encode(strings)] == own.decode(own.encode(strings))
    user, eos = own.piece_to_id("<|user|>"), own.eos_id()
    expected = [*own.encode("a b"), user, *own.encode(" c"), eos, eos]
    assert spm.encode("a b<|user|> c</s></s>") == expected
    assert spm.decode(expected) == "a b c"
    assert spm.decode(expected, skip_special=False) == "a b<|user|> c</s></s>"
    assert (spm.bos_id, spm.eos_id, spm.pad_id) == (own.bos_id(), eos, own.pad_id())
    assert spm.vocab_size == own.vocab_size() <= 320


def test_sentencepiece_with_dummy_prefix(tmp_path):
    """Llama-2's kind of model: a space before the text, none after a symbol."""
    with open(tmp_path / "tokenizer.model", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS),
            model_writer=file,
            vocab_size=320,
            hard_vocab_limit=False,
            byte_fallback=True,
            remove_extra_whitespaces=False,
            minloglevel=2,
        )
    config = {"bos_token": "<s>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours = Tokenizer.from_directory(tmp_path)
    own = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    strings = varied_strings([])
    assert ours.encode_batch(strings) == own.encode(strings)
    assert [ours.decode(ids) for ids in own.encode(strings)] == own.decode(own.encode(strings))
    first, after = ours.encode("rains"), ours.encode("</s>rains")[1:]
    assert own.id_to_piece(first[0]).startswith("▁")
    assert not own.id_to_piece(after[0]).startswith("▁")
    assert ours.decode(ours.encode("it</s>rains in")) == "itrains in"
    assert ours.decode(ours.encode("it</s> rains in")) == "it rains in"
    assert ours.pad_id == ours.eos_id


def test_trained_model_is_the_same_each_time_and_loads_again(spm, tmp_path):
    again = Tokenizer.train_sentencepiece(iter(CORPUS), 320, tmp_path)
    strings = varied_strings(SPM_SPECIAL)
    assert again.encode_batch(strings) == spm.encode_batch(strings)
    assert again.chat_template == spm.chat_template is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tokenizer.model",
        "tokenizer_config.json",
    ]


def test_training_reads_long_texts(tmp_path):
    text = "a b c " * 1000 + "zyx wvu " * 3000  # one line, longer than the trainer's limit
    tokenizer = Tokenizer.train_sentencepiece([text], 300, tmp_path)
    assert len(tokenizer.encode("zyx wvu")) < len("zyx wvu")


def write(directory, **files):
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "tokenizer_config.json: no such file"),
        ({"tokenizer_config__json": "{}"}, "no `eos_token`"),
        ({"tokenizer_config__json": "{"}, "broken JSON"),
        ({"tokenizer_config__json": "[]"}, "expected a JSON object"),
        ({"tokenizer_config__json": '{"eos_token": "x"}'}, "no tokenizer.json and no tokenizer.m"),
        (
            {"tokenizer_config__json": '{"eos_token": "x"}', "tokenizer__json": "{}"},
            "tokenizer.json: no `model`",
        ),
        (
            {"tokenizer_config__json": '{"eos_token": "x"}', "tokenizer__model": "junk"},
            "not a SentencePiece model",
        ),
    ],
)
def test_directory_errors(files, message, tmp_path):
    write(tmp_path, **files)
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        Tokenizer.from_directory(tmp_path)


def test_eos_outside_the_vocabulary(spm):
    with pytest.raises(InputError, match="eos_token '<nope>' is not in the vocabulary"):
        Tokenizer(spm.backend, eos_token="<nope>")


def test_bos_is_asked_for_where_there_is_none(spm):
    with pytest.raises(InputError, match="no BOS token"):
        Tokenizer(spm.backend, eos_token="</s>").encode("a", add_bos=True)


@pytest.mark.parametrize(
    ("texts", "size", "message"),
    [([], 400, "no text"), (["a"], 10, "vocab_size 10: Vocabulary size is smaller")],
)
def test_training_errors(texts, size, message, tmp_path):
    with pytest.raises(InputError, match=message):
        Tokenizer.train_sentencepiece(texts, size, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_gguf_errors(tmp_path, smollm2_gguf, monkeypatch):
    with pytest.raises(InputError, match="no such file"):
        Tokenizer.from_gguf(tmp_path / "none.gguf")
    (tmp_path / "text.gguf").write_text("not a model at all")
    with pytest.raises(InputError, match="not a GGUF file"):
        Tokenizer.from_gguf(tmp_path / "text.gguf")
    (tmp_path / "empty.gguf").touch()
    with pytest.raises(InputError, match="not a GGUF file"):
        Tokenizer.from_gguf(tmp_path / "empty.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match=r'pip install "irl_jax\[demo\]"'):
        Tokenizer.from_gguf(smollm2_gguf)


def small_gguf(path, *, model="gpt2", pre="smollm", eos=True, bos=None, add_bos=None):
    gguf = pytest.importorskip("gguf", reason='pip install "irl_jax[demo]"')
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(["<end>", "a", "b", "ab", "1", "Ġ", "<role>"])
    writer.add_token_types([3, 1, 1, 1, 1, 1, 4])
    writer.add_token_merges(["a b"])
    if eos:
        writer.add_eos_token_id(0)
    if bos is not None:
        writer.add_bos_token_id(bos)
    if add_bos is not None:
        writer.add_add_bos_token(add_bos)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("add", [True, False, None])
def test_gguf_says_whether_a_text_begins_with_bos(add, tmp_path):
    path = small_gguf(tmp_path / "a.gguf", bos=0, add_bos=add)
    assert Tokenizer.from_gguf(path).add_bos == bool(add)
    assert not Tokenizer.from_gguf(small_gguf(tmp_path / "b.gguf", add_bos=add)).add_bos


def test_gguf_token_types(tmp_path):
    tokenizer = Tokenizer.from_gguf(small_gguf(tmp_path / "a.gguf"))
    ids = tokenizer.encode("ab1<role>ba<end>")
    assert ids == [3, 4, 6, 2, 1, 0]
    assert tokenizer.decode(ids) == "ab1<role>ba"  # user-defined tokens are no special ones
    assert tokenizer.bos_id is None and tokenizer.pad_id == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "llama"}, "kind 'llama'"),
        ({"pre": "made-up"}, "pre-tokenizer 'made-up' is not among gpt-2, smollm"),
        ({"pre": None}, "no tokenizer.ggml.pre, .* --tokenizer DIR"),
        ({"eos": False}, "no tokenizer.ggml.eos_token_id"),
        ({"bos": 7}, "bos_token_id is 7, of 7 tokens"),
    ],
)
def test_gguf_that_is_not_supported(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        Tokenizer.from_gguf(small_gguf(tmp_path / "a.gguf", **options))
