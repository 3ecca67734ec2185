from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
import pytest

from irl_jax.data.encode import EncodedPrompt
from irl_jax.data.jsonl import PromptRecord
from irl_jax.models.mesh import make_mesh
from irl_jax.recipes.text_rewards import PromptReader, TextReward
from irl_jax.types import Group, InputError, Prompt

ITEMS = [
    EncodedPrompt([5, 6], PromptRecord("first", {"answer": 1}, "f:1")),
    EncodedPrompt([7], PromptRecord("second", {}, "f:2")),
]


@dataclass
class Session:
    """Decodes a token to a letter."""

    mesh: jax.sharding.Mesh

    def texts(self, group):
        return [["".join(map(chr, own)) for own in row] for row in np.asarray(group.action)]


def group_of(prompts: list[list[int]]) -> Group:
    width = max(map(len, prompts))
    tokens = np.array([[0] * (width - len(p)) + p for p in prompts])
    mask = np.array([[False] * (width - len(p)) + [True] * len(p) for p in prompts])
    b = len(prompts)
    action = np.arange(65, 65 + 2 * b).reshape(b, 2, 1)
    zeros = np.zeros((b, 2, 1), np.float32)
    context = Prompt(tokens, mask)
    return Group(context, action, zeros == 0, zeros, zeros[..., 0], zeros[..., 0] == 0)


def reward_of(function):
    return TextReward("m:f", function, PromptReader(Session(make_mesh(1)), ITEMS))


def test_each_completion_comes_with_its_prompt_and_columns():
    seen = {}

    def f(prompts, completions, **columns):
        seen.update(prompts=prompts, completions=completions, **columns)
        return [ord(text) for text in completions]

    reward = reward_of(f)
    found = reward.values(group_of([[7], [5, 6], [0]]))  # the last row fills the batch
    assert seen["prompts"] == ["second", "second", "first", "first"]
    assert seen["completions"] == ["A", "B", "C", "D"]
    assert seen["answer"] == [None, None, 1, 1]
    assert np.asarray(found).tolist() == [[65, 66], [67, 68], [0, 0]]
    assert found.dtype == np.float32


def test_a_function_gets_the_columns_that_it_names():
    assert (
        np.asarray(reward_of(lambda prompts, completions: [1] * 2).values(group_of([[7]]))).sum()
        == 2
    )
    by_name = reward_of(lambda prompts, completions, answer: [a or 0 for a in answer])
    assert np.asarray(by_name.values(group_of([[5, 6]]))).tolist() == [[1, 1]]


@pytest.mark.parametrize(
    "function",
    [lambda completions: [], lambda prompts, completions, truth: []],
)
def test_a_function_of_other_arguments_is_refused_at_once(function):
    with pytest.raises(InputError, match=r"m:f: .*write it as f\(prompts, completions, \*\*col"):
        reward_of(function)


@pytest.mark.parametrize("given", [[1.0], [1.0, "x"], None, [[1.0], [2.0]]])
def test_what_is_no_number_a_completion_is_refused(given):
    with pytest.raises(InputError, match="return a list of a number for each"):
        reward_of(lambda prompts, completions: given).values(group_of([[7]]))
