"""Judged responses as token ids, and their batches, against what was put in."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irl_jax.data.batches import (
    collate_rankings,
    collate_ratings,
    collate_scored,
    collate_steps,
)
from irl_jax.data.chat import DIALOGUE_TEMPLATE
from irl_jax.data.encode import Encoder
from irl_jax.data.encode_judged import (
    EncodedRanking,
    EncodedRating,
    EncodedScored,
    EncodedSteps,
    encode_rankings,
    encode_ratings,
    encode_scored,
    encode_steps,
)
from irl_jax.data.judged import RankingRecord, RatingRecord, ScoredRecord, StepsRecord, read_steps
from irl_jax.data.spans import end_tokens
from irl_jax.data.tokenizer import Tokenizer
from irl_jax.types import InputError
from tests.data.kinds import KINDS, LLAMA2, ZEPHYR
from tests.data.strings import FRAGMENTS

PAD = 9
RATINGS = [
    EncodedRating([1, 2], [4, 5], 0.5, 2.0, "f:1"),
    EncodedRating([3], [6, 7, 8], -1.0, 1.0, "f:2", masks=[[True, False, True]]),
]
RANKINGS = [
    EncodedRanking([1], [[4, 5], [6], [7]], 3, 2.0, "f:1"),
    EncodedRanking([2, 3], [[8], [4, 5, 6]], 3, 1.0, "f:2", masks=[[True], [True, False, True]]),
]
SCORED = [
    EncodedScored([1], [[4, 5], [6]], [0.5, -2.0], [True, False], "f:1"),
    EncodedScored([2, 3], [[8], [4, 5, 6]], [1.0, 3.0], [False, True], "f:2"),
]
STEPS = [
    EncodedSteps([1], [4, 5, 6, 7], [1, 2], [1.0, 0.25], 2.0, "f:1"),
    EncodedSteps([2, 3], [8], [0], [0.0], 1.0, "f:2"),
]


def ints(array):
    return array.astype(int).tolist()


def check_arrays(batch, dtypes):
    leaves = jax.tree.leaves(batch)
    assert all(isinstance(leaf, np.ndarray) for leaf in leaves)
    assert [leaf.dtype.name for leaf in leaves] == dtypes


def test_ratings_are_padded():
    batch = collate_ratings([*RATINGS, None], (3, 4), pad_id=PAD)
    assert batch.context.tokens.tolist() == [[9, 1, 2], [9, 9, 3], [9, 9, 9]]
    assert ints(batch.context.mask) == [[0, 1, 1], [0, 0, 1], [0, 0, 1]]
    assert batch.action.tolist() == [[4, 5, 9, 9], [6, 7, 8, 9], [9, 9, 9, 9]]
    assert ints(batch.mask) == [[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert batch.score.tolist() == [0.5, -1, 0]
    assert batch.weight.tolist() == [2, 1, 0]
    check_arrays(batch, ["int32", "bool", "int32", "bool", "float32", "float32"])


def test_rankings_are_padded_in_both_ways():
    batch = collate_rankings([RANKINGS[0], None, RANKINGS[1]], (2, 3), pad_id=PAD)
    assert batch.context.tokens.tolist() == [[9, 1], [9, 9], [2, 3]]
    assert batch.action.tolist() == [
        [[4, 5, 9], [6, 9, 9], [7, 9, 9]],
        [[9, 9, 9]] * 3,
        [[8, 9, 9], [4, 5, 6], [9, 9, 9]],
    ]
    assert ints(batch.mask) == [
        [[1, 1, 0], [1, 0, 0], [1, 0, 0]],
        [[0, 0, 0]] * 3,
        [[1, 0, 0], [1, 0, 1], [0, 0, 0]],
    ]
    assert batch.count.tolist() == [3, 0, 2]
    assert batch.weight.tolist() == [2, 0, 1]
    check_arrays(batch, ["int32", "bool", "int32", "bool", "int32", "float32"])
    short = collate_rankings([RANKINGS[1]], (2, 3), pad_id=PAD)
    assert short.action.shape == (1, 3, 3)  # a run compiles one K, whatever a batch holds


def test_scored_are_a_group():
    batch = collate_scored([None, *SCORED], (2, 3), pad_id=PAD)
    assert batch.context.tokens.tolist() == [[9, 9], [9, 1], [2, 3]]
    assert batch.action.tolist() == [
        [[9, 9, 9]] * 2,
        [[4, 5, 9], [6, 9, 9]],
        [[8, 9, 9], [4, 5, 6]],
    ]
    assert ints(batch.mask) == [
        [[0, 0, 0]] * 2,
        [[1, 1, 0], [1, 0, 0]],
        [[1, 0, 0], [1, 1, 1]],
    ]
    assert batch.reward.tolist() == [[0, 0], [0.5, -2], [1, 3]]
    assert ints(batch.terminated) == [[0, 0], [1, 0], [0, 1]]
    assert batch.logp.shape == (3, 2, 3) and not batch.logp.any()
    check_arrays(batch, ["int32", "bool", "int32", "bool", "float32", "float32", "bool"])


def test_steps_end_where_they_end():
    batch = collate_steps([*STEPS, None], (2, 4), pad_id=PAD)
    assert batch.action.tolist() == [[4, 5, 6, 7], [8, 9, 9, 9], [9, 9, 9, 9]]
    assert ints(batch.mask) == [[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert ints(batch.end) == [[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert batch.label.tolist() == [[0, 1, 0.25, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert batch.weight.tolist() == [2, 1, 0]
    check_arrays(batch, ["int32", "bool", "int32", "bool", "bool", "float32", "float32"])


@pytest.mark.parametrize(
    ("collate", "items"),
    [
        (collate_ratings, RATINGS),
        (collate_rankings, RANKINGS),
        (collate_scored, SCORED),
    ],
)
def test_items_longer_than_the_shape(collate, items):
    with pytest.raises(InputError, match=r"f:2: 3 tokens do not fit a shape of 2"):
        collate(items[1:], (2, 2), pad_id=PAD)
    with pytest.raises(InputError, match=r"f:\d: 2 tokens do not fit a shape of 1"):
        collate(items, (1, 3), pad_id=PAD)
    assert max(item.lengths for item in items) == (2, max(i.lengths for i in items)[1])


WORDS = st.text(st.sampled_from("abc .,é👍\n"), min_size=1, max_size=12).filter(str.strip)
SOME = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def texts(tokenizer, batch):
    """The prompts of a batch, and the texts of its rows' completions."""
    prompts = [
        tokenizer.decode(row[mask])
        for row, mask in zip(batch.context.tokens, batch.context.mask, strict=True)
    ]
    return prompts, [
        tokenizer.decode(row[mask])
        for row, mask in zip(
            batch.action.reshape(-1, batch.action.shape[-1]),
            batch.mask.reshape(-1, batch.action.shape[-1]),
            strict=True,
        )
    ]


@SOME
@given(prompt=WORDS, said=st.lists(WORDS, min_size=2, max_size=4), chat=st.booleans())
def test_batches_say_what_records_say(spm, prompt, said, chat):
    encoder = Encoder(spm, 99, 99, template=spm.chat_template if chat else None)
    shape = (99, 99)
    rating = collate_ratings(
        encode_ratings(encoder, [RatingRecord(prompt, text, 1.0, 1.0, "f:1") for text in said]),
        shape,
        pad_id=spm.pad_id,
    )
    assert texts(spm, rating) == ([prompt] * len(said), said)
    scores = [float(i) for i in range(len(said))]
    (scored,) = encode_scored(encoder, [ScoredRecord(prompt, said, scores, "f:1")])
    assert texts(spm, collate_scored([scored], shape, pad_id=spm.pad_id)) == ([prompt], said)
    assert scored.ended == [True] * len(said)
    ranking = encode_rankings(encoder, [RankingRecord(prompt, said, 1.0, "f:1")], ties="keep")
    assert texts(spm, collate_rankings(ranking, shape, pad_id=spm.pad_id)) == ([prompt], said)


def brute(decode, ids, text, ends):
    """The first token with which the visible characters up to each end are said."""
    visible = lambda text: "".join(text.split())
    found = [0]
    for end in ends:
        holds = lambda t, end=end: visible(decode(ids[: t + 1])).startswith(visible(text[:end]))
        found.append(next(t for t in range(found[-1], len(ids)) if holds(t)))
    return found[1:]


@SOME
@given(prompt=WORDS, steps=st.lists(WORDS, min_size=1, max_size=5))
def test_steps_end_at_the_token_of_their_last_character(spm, prompt, steps):
    ends = np.cumsum([len(step) + 1 for step in steps]) - 1
    record = StepsRecord(prompt, "\n".join(steps), ends.tolist(), [1.0] * len(steps), 1.0, "f:1")
    encoder = Encoder(spm, 99, 199)
    (item,) = encode_steps(encoder, [record])
    assert item.completion == [*spm.encode(record.completion), spm.eos_id]
    assert item.ends == brute(spm.decode, item.completion, record.completion, ends)
    batch = collate_steps([item], (99, 199), pad_id=spm.pad_id)
    assert texts(spm, batch) == ([prompt], [record.completion])


@pytest.mark.parametrize("template", [None, LLAMA2, ZEPHYR, DIALOGUE_TEMPLATE])
@pytest.mark.parametrize("name", ["spm-bpe-prefix", "byte-level", "llama", "metaspace-first"])
def test_steps_of_any_tokenizer_and_template(name, template, tmp_path):
    KINDS[name](tmp_path)
    tokenizer = Tokenizer.from_directory(tmp_path)
    steps = ["It rains, it pours.", "What is 12 plus 30?", " It is 42. "]
    labels = [1.0, None, 0.5]
    ends = [len("\n".join(steps[: i + 1])) for i in range(3)]
    record = StepsRecord("is it?", "\n".join(steps), ends, labels, 2.0, "f:1")
    (item,) = encode_steps(Encoder(tokenizer, 99, 199, template=template), [record])
    assert (item.labels, item.weight) == ([1.0, 0.5], 2.0)
    said = [tokenizer.decode(item.completion[: end + 1]).strip() for end in item.ends]
    bare = lambda text: text.split()
    assert [bare(text) for text in said] == [bare(steps[0]), bare(" ".join(steps))]
    assert tokenizer.decode([item.completion[item.ends[-1]]]).strip().endswith(".")


@pytest.mark.parametrize("name", ["smollm2", "spm"])
def test_characters_of_several_tokens(name, request):
    tokenizer = request.getfixturevalue(name)
    steps = [text for text in FRAGMENTS[1::2] if text.strip()]
    text = " ".join(steps)
    ends = (np.cumsum([len(step) + 1 for step in steps]) - 1).tolist()
    ids = tokenizer.encode(text, add_eos=True)
    found = end_tokens(tokenizer.decode, ids, text, ends)
    assert found == brute(tokenizer.decode, ids, text, ends)


def test_a_cut_takes_steps_away(spm):
    record = StepsRecord("p", "It rains.\nIt pours.", [9, 19], [0.0, 1.0], 1.0, "f:1")
    (whole,) = encode_steps(Encoder(spm, 9, 99), [record])
    first, last = whole.ends
    for most, labels in [(last + 1, [0.0, 1.0]), (last, [0.0]), (first + 1, [0.0]), (first, None)]:
        found = encode_steps(Encoder(spm, 9, most, overlong="truncate"), [record])
        assert [item.labels for item in found] == ([] if labels is None else [labels])
        assert all(item.ends == whole.ends[: len(item.labels)] for item in found)
    (scored,) = encode_scored(
        Encoder(spm, 9, 2, overlong="truncate"),
        [ScoredRecord("p", ["a", "It rains."], [0.0, 1.0], "f:1")],
    )
    assert scored.ended == [True, False]


def test_an_eos_that_ends_the_last_step_is_none_of_it(spm):
    plain = StepsRecord("p", "a.\nb.", [2, 5], [0.0, 1.0], 1.0, "f:1")
    ended = StepsRecord("p", "a.\nb.</s>", [2, 9], [0.0, 1.0], 1.0, "f:1")
    for template in (None, spm.chat_template):
        encoder = Encoder(spm, 9, 99, template=template)
        assert encode_steps(encoder, [ended]) == encode_steps(encoder, [plain])


def test_steps_that_end_in_one_token(spm, tmp_path):
    (token,) = spm.encode("It")
    assert spm.decode([token]) == "It"
    record = StepsRecord("p", "It", [1, 2], [0.0, 1.0], 1.0, "f:1")
    with pytest.raises(InputError, match=r"^f:1: steps 1 and 2 end in one token; join them"):
        encode_steps(Encoder(spm, 9, 99), [record])


def test_steps_that_a_template_changes_are_named(spm):
    shouts = spm.chat_template.replace("message.content", "message.content.upper()")
    record = StepsRecord("p", "IT\nno", [2, 5], [0.0, 1.0], 1.0, "f:1")
    with pytest.raises(InputError, match=r"^f:1: the tokens of the answer do not say step 2 as"):
        encode_steps(Encoder(spm, 9, 99, template=shouts), [record])


def test_rankings_that_a_cut_makes_equal(spm):
    records = [
        RankingRecord("p", ["a", "b"], 1.0, "f:1"),
        RankingRecord("p", ["c d e f", "c d e g", "a"], 1.0, "f:2"),
    ]
    encoder = Encoder(spm, 9, 2, overlong="truncate")
    with pytest.raises(InputError, match=r"^f:2: two responses are the same tokens"):
        encode_rankings(encoder, records)
    (kept,) = encode_rankings(encoder, records, ties="drop")
    assert (kept.source, kept.most) == ("f:1", 2)
    assert [item.most for item in encode_rankings(encoder, records, ties="keep")] == [3, 3]


def test_turns_of_others_are_no_actions(spm):
    turns = [
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    encoder = Encoder(spm, 99, 99, template=spm.chat_template)
    (item,) = encode_ratings(encoder, [RatingRecord("p", turns, 1.0, 1.0, "f:1")])
    batch = collate_ratings([item], (99, 99), pad_id=spm.pad_id)
    assert spm.decode(batch.action[0][batch.mask[0]], False) == "a</s>c</s>"


def test_read_steps_are_encoded(spm, tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"prompt": "p", "completions": ["a b", "c"], "labels": [true, null]}\n')
    for separator in ("\n", " // ", "ab"):
        (record,) = read_steps(file, step_separator=separator)
        (item,) = encode_steps(Encoder(spm, 9, 99), [record])
        assert spm.decode(item.completion[: item.ends[0] + 1]) == "a b"
        assert item.labels == [1.0]
