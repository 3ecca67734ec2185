"""A completion's tokens are those that it has in the rendered whole, for every tokenizer."""

from __future__ import annotations

import pytest
import sentencepiece
import tokenizers

from irl_jax.data.chat import DIALOGUE_TEMPLATE
from irl_jax.data.encode import Encoder
from irl_jax.data.jsonl import (
    DemonstrationRecord,
    GroupRecord,
    PreferenceRecord,
    PromptRecord,
)
from irl_jax.data.tokenizer import Tokenizer
from tests.data.kinds import KINDS, TEMPLATES

USER = "What is 12 plus 30?"
ANSWERS = ["rains again", "It is 42.", " the fox", "a</s>b c", "\nline", "fox jumps\n\nover"]
PLAIN = [("It rains,", " it pours"), ("Q: fox\nA:", " lazy dog"), ("Q: fox\nA: ", "lazy"),
         ("the qui", "ck brown"), ("x\n", "world yes"), ("It is", "42")]  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory):
    """Name, directory and tokenizer of one kind."""
    directory = tmp_path_factory.mktemp(request.param)
    KINDS[request.param](directory)
    return request.param, directory, Tokenizer.from_directory(directory)


def own_ids(directory, text):
    """Ids of a text by the library itself, control symbols parsed."""
    if (directory / "tokenizer.json").exists():
        model = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
        return model.encode(text, add_special_tokens=False).ids
    model = sentencepiece.SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
    return model.encode(text)


def whole_of(template, answer):
    """A conversation as these templates render it, up to its EOS."""
    parts = {
        "chatml": "<|im_start|>user\nUSER</s>\n<|im_start|>assistant\nANSWER</s>",
        "roles": "<|im_end|>USER</s><|im_start|>ANSWER</s>",
        "llama2": "<s>[INST] USER [/INST] ANSWER </s>",
        "mistral": "<s>[INST] USER [/INST]ANSWER</s>",
        "zephyr": "<|user|>\nUSER</s>\n<|assistant|>\nANSWER</s>",
    }
    return parts[template].replace("USER", USER).replace("ANSWER", answer)


@pytest.mark.parametrize("template", TEMPLATES)
def test_prompt_and_completion_are_the_rendered_whole(kind, template):
    name, directory, tokenizer = kind
    encoder = Encoder(tokenizer, 200, 200, template=TEMPLATES[template])
    for answer in ANSWERS:
        (item,) = encoder.demonstrations([DemonstrationRecord(USER, answer, "f:1")])
        whole = whole_of(template, answer)
        expected = tokenizer.encode(whole) if name.startswith("spm") else own_ids(directory, whole)
        assert item.prompt + item.completion == expected, answer
        (alone,) = encoder.prompts([PromptRecord(USER, {}, "f:1")])
        assert alone.prompt == item.prompt


def test_dialogues_and_plain_texts_are_the_whole(kind):
    _, directory, tokenizer = kind
    cases = [(DIALOGUE_TEMPLATE, USER, a, f"\n\nHuman: {USER}\n\nAssistant: {a}") for a in
             ("rains again", "It is 42.")]  # fmt: skip
    cases += [(None, prompt, answer, prompt + answer) for prompt, answer in PLAIN]
    kept = 0
    for template, prompt, answer, text in cases:
        encoder = Encoder(tokenizer, 200, 200, template=template)
        (item,) = encoder.demonstrations([DemonstrationRecord(prompt, answer, "f:1")])
        head = text.removesuffix(answer).removesuffix(" ") if template else prompt
        assert item.prompt == own_ids(directory, head)
        assert item.completion[-1] == tokenizer.eos_id
        whole = own_ids(directory, text)
        if whole[: len(item.prompt)] == item.prompt:
            assert item.prompt + item.completion[:-1] == whole
            kept += 1
        else:  # a token of the whole crosses the border: the letters are all that is left
            said = tokenizer.decode([*item.prompt, *item.completion])
            assert said.replace(" ", "") == text.replace(" ", "")
    assert kept >= len(cases) - 2


def test_a_word_begun_by_the_prompt_gets_no_space(kind):
    name, _, tokenizer = kind
    if name == "word-piece":
        pytest.skip("WordPiece writes no spaces")
    encoder = Encoder(tokenizer, 200, 200)
    for prompt, answer in [("the qu", "ick brown"), ("it rai", "ns in")]:
        (item,) = encoder.demonstrations([DemonstrationRecord(prompt, answer, "f:1")])
        assert item.prompt == tokenizer.encode(prompt)
        assert tokenizer.decode([*item.prompt, *item.completion]).lstrip() == prompt + answer


def test_pairs_and_groups_are_encoded_alike(kind):
    _, _, tokenizer = kind
    encoder = Encoder(tokenizer, 200, 200, template=TEMPLATES["zephyr"])
    (pair,) = encoder.preferences([PreferenceRecord(USER, *ANSWERS[:2], 0.0, 1.0, "f:1")])
    (group,) = encoder.groups([GroupRecord(USER, list(ANSWERS), {}, "f:1")])
    alone = encoder.demonstrations(DemonstrationRecord(USER, a, "f:1") for a in ANSWERS)
    assert [pair.chosen, pair.rejected] == group.completions[:2]
    assert group.completions == [item.completion for item in alone]


def test_ids_are_those_of_transformers(kind, transformers):
    name, directory, tokenizer = kind
    if name.startswith("spm"):
        pytest.skip("tokenizer.model is compared in test_tokenizer_files.py")
    theirs = transformers.AutoTokenizer.from_pretrained(directory)
    for template in TEMPLATES.values():
        encoder = Encoder(tokenizer, 200, 200, template=template)
        turns = [{"role": "user", "content": USER}, {"role": "assistant", "content": "It rains."}]
        whole = theirs.apply_chat_template(turns, chat_template=template, return_dict=False)
        (item,) = encoder.demonstrations([DemonstrationRecord(turns[:1], turns[1:], "f:1")])
        ours = item.prompt + item.completion
        assert ours == whole[: len(ours)]


def test_what_follows_an_added_token_in_a_continuation_is_as_in_any_text(kind):
    name, _, tokenizer = kind
    later = "<|im_start|>rains</s> the fox"
    begun = tokenizer.backend.encode_continuation("ick" + later)
    after = tokenizer.encode("the" + later)
    first = tokenizer.backend.token_to_id("<|im_start|>")
    assert begun[begun.index(first) :] == after[after.index(first) :]
    if name.endswith(("always", "legacy", "llama")):  # a stretch after a symbol gets its space
        assert tokenizer.backend.id_to_token(begun[begun.index(first) + 1]).startswith("▁")
