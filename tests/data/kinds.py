"""Small tokenizers of every kind, trained on a few lines, and templates of every kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from tests.data.conftest import CORPUS

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]"]
ASCII = [chr(code) for code in range(33, 127)]
TOKENS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ROLES = (
    "{% for m in messages %}{{ '<|im_start|>' if m.role == 'assistant' else '<|im_end|>' }}"
    "{{ m.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>' }}{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}"
    "{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = LLAMA2.replace("' ' + m.content + ' ' +", "m.content +")
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "roles": ROLES,
    "llama2": LLAMA2,
    "mistral": MISTRAL,
    "zephyr": ZEPHYR,
}


def write_config(directory: Path, **fields: Any) -> None:
    (directory / "tokenizer_config.json").write_text(json.dumps(TOKENS | fields))


def sentence_pieces(directory: Path, kind: str, *, prefix: bool, **config: Any) -> None:
    """tokenizer.model of kind bpe or unigram, with a dummy prefix or without."""
    with open(directory / "tokenizer.model", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS),
            model_writer=file,
            model_type=kind,
            vocab_size=330,
            hard_vocab_limit=False,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=prefix,
            control_symbols=SPECIAL[3:],
            minloglevel=2,
        )
    write_config(directory, **config)


def save_model(directory: Path, model: tokenizers.Tokenizer, trainer: Any, **config: Any) -> None:
    """tokenizer.json of a model, trained on words, so that no merge crosses a line's end."""
    own = model.pre_tokenizer
    words = [pre_tokenizers.Split("\n", "isolated")]
    if not isinstance(own, pre_tokenizers.ByteLevel | pre_tokenizers.BertPreTokenizer):
        words.append(pre_tokenizers.Metaspace(prepend_scheme="never"))
    model.pre_tokenizer = pre_tokenizers.Sequence([*words, *([own] if own else [])])
    model.train_from_iterator(CORPUS, trainer)
    model.pre_tokenizer = own
    model.add_special_tokens(
        [tokenizers.AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    )
    model.save(str(directory / "tokenizer.json"))
    write_config(directory, tokenizer_class="PreTrainedTokenizerFast", **config)


def byte_level(directory: Path, *, prefix: bool) -> None:
    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    model.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    save_model(directory, model, trainer)


def metaspace(directory: Path, scheme: str, *, unigram: bool = False) -> None:
    kind = models.Unigram() if unigram else models.BPE(byte_fallback=True, unk_token="<unk>")
    model = tokenizers.Tokenizer(kind)
    model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=unigram)
    model.decoder = decoders.Metaspace(prepend_scheme=scheme)
    if unigram:
        trainer: Any = trainers.UnigramTrainer(
            vocab_size=200,
            special_tokens=SPECIAL,
            initial_alphabet=ASCII,
            unk_token="<unk>",
            show_progress=False,
        )
    else:
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=SPECIAL, initial_alphabet=ASCII, show_progress=False
        )
    save_model(directory, model, trainer)


def llama_style(directory: Path) -> None:
    """Llama-2's own tokenizer.json: a Prepend normalizer, no pre-tokenizer."""
    model = tokenizers.Tokenizer(models.BPE(fuse_unk=True, unk_token="<unk>"))
    model.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    model.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=ASCII, show_progress=False
    )
    save_model(directory, model, trainer)


def word_piece(directory: Path) -> None:
    model = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    model.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL, show_progress=False)
    save_model(directory, model, trainer)


KINDS = {
    "spm-bpe": lambda d: sentence_pieces(d, "bpe", prefix=False),
    "spm-bpe-prefix": lambda d: sentence_pieces(d, "bpe", prefix=True),
    "spm-bpe-legacy": lambda d: sentence_pieces(d, "bpe", prefix=True, legacy=True),
    "spm-unigram": lambda d: sentence_pieces(d, "unigram", prefix=False),
    "spm-unigram-prefix": lambda d: sentence_pieces(d, "unigram", prefix=True),
    "byte-level": lambda d: byte_level(d, prefix=False),
    "byte-level-prefix": lambda d: byte_level(d, prefix=True),
    "metaspace-first": lambda d: metaspace(d, "first"),
    "metaspace-always": lambda d: metaspace(d, "always"),
    "metaspace-never": lambda d: metaspace(d, "never"),
    "unigram-always": lambda d: metaspace(d, "always", unigram=True),
    "llama": llama_style,
    "word-piece": word_piece,
}
