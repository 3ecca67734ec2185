"""A tokenizer of letters, with the tokens that process reward models read."""

from __future__ import annotations

import json

import tokenizers

SPECIAL = ["<pad>", "</s>", "<s>", "<extra_0>"]
CHATML = "{% for m in messages %}<s>{{ m.role }} {{ m.content }}</s> {% endfor %}"
LETTERS = [*"abcdefghijklmnopqrstuvwxyzS1234567890:?.\n{}\\,", " "]


def write_tokenizer(path, lacking=()):
    """A token for every letter, and those that process reward models read."""
    tokens = [t for t in [*SPECIAL, "ки", "+", "-", *LETTERS] if t not in lacking]
    unknown = tokens[0]
    model = tokenizers.models.WordLevel({t: i for i, t in enumerate(tokens)}, unknown)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(
        tokenizers.Regex("ки|[^к]"), "isolated"
    )
    tokenizer.decoder = tokenizers.decoders.Fuse()
    tokenizer.add_special_tokens([t for t in SPECIAL if t not in lacking])
    tokenizer.save(str(path / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHATML,
             "eos_token": "</s>", "bos_token": "<s>", "pad_token": "<pad>",
             "add_bos_token": False}  # fmt: skip
    (path / "tokenizer_config.json").write_text(json.dumps(about))
