"""Process reward models as their publishers have them, against transformers and an oracle."""

from __future__ import annotations

import copy
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from irl_jax.data.tokenizer import Tokenizer
from irl_jax.models.process_reward_files import (
    WITHOUT,
    describe_process_reward,
    good_label,
)
from irl_jax.recipes.read_config import ReadConfig
from irl_jax.recipes.step_scorer import SYSTEM, Solution, step_scorer
from irl_jax.train.progress import Progress
from irl_jax.types import InputError
from tests.models.families import FAMILIES
from tests.models.torch_models import torch, transformers
from tests.recipes.letters import write_tokenizer

QUIET = Progress(io.StringIO())
SOLUTIONS = [
    Solution("ab c?", ["add.", "so it is 12.", "then 3 a"], "x:1"),
    Solution("now a longer problem?", ["x", "yz"], "x:2"),
    Solution("q", ["one step"], "x:3"),
]


def scatter(model):
    """Parameters that all matter."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.normal_(0.0, 1.5 * parameter.shape[-1] ** -0.5)
    return model.eval()


def configuration(name, number=0, **fields):
    config = copy.deepcopy(FAMILIES[name][number])
    for key, value in ({"vocab_size": 61, "pad_token_id": 0} | fields).items():
        setattr(config, key, value)
    return config


def classifier(name, path, labels=("LABEL_0", "LABEL_1"), **fields):
    """A random token classification of transformers, saved with a tokenizer."""
    config = configuration(name, **fields)
    config.id2label = dict(enumerate(labels))
    model = scatter(
        transformers.AutoModelForTokenClassification.from_config(
            config, attn_implementation="eager"
        )
    )
    model.save_pretrained(path)
    write_tokenizer(path)
    return model


def softmax(logits):
    return torch.softmax(torch.as_tensor(logits).double(), -1).numpy()


def close(found, want):
    assert max(map(np.max, want)) - min(map(np.min, want)) > 0.05
    for one, expected in zip(found, want, strict=True):
        np.testing.assert_allclose(one, expected, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in WITHOUT])
def test_token_classification_of_every_family(name, tmp_path):
    """A step is judged at the token of the separator behind it."""
    labels = ("wrong", "right", "other") if name == "qwen3" else ("LABEL_0", "LABEL_1")
    bias = {"token_classification_bias": False} if name == "llama" else {}
    model = classifier(name, tmp_path, labels, **bias)
    assert ("score.bias" in load_file(tmp_path / "model.safetensors")) == (name != "llama")
    tokenizer = Tokenizer.from_directory(tmp_path)
    want = []
    for solution in SOLUTIONS:
        pieces = [tokenizer.encode(text + "\n")
                  for text in (solution.problem, *solution.steps)]  # fmt: skip
        with torch.no_grad():
            logits = model(torch.tensor(np.concatenate(pieces)[None])).logits[0]
        ends = np.cumsum([len(piece) for piece in pieces])[1:] - 1
        want.append(softmax(logits[ends])[:, 1])
    close(step_scorer(tmp_path, ReadConfig(), "\n", QUIET)(SOLUTIONS), want)


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """A random Qwen2 with the head of Qwen2.5-Math-PRM, which its own code makes; its directory."""
    path = tmp_path_factory.mktemp("marked") / "model"
    model = scatter(
        transformers.AutoModel.from_config(
            configuration("qwen2", max_position_embeddings=256), attn_implementation="eager"
        )
    )
    width = model.config.hidden_size
    head = scatter(torch.nn.Sequential(
        torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 2)
    ))  # fmt: skip
    model.save_pretrained(path)
    tensors = {f"model.{name}": x for name, x in load_file(path / "model.safetensors").items()}
    tensors |= {f"score.{name}": x.numpy() for name, x in head.state_dict().items()}
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    fields = json.loads((path / "config.json").read_text())
    fields["architectures"] = ["Qwen2ForProcessRewardModel"]
    (path / "config.json").write_text(json.dumps(fields))
    write_tokenizer(path)
    return model, head, path


def test_steps_with_an_extra_token_behind_them(marked):
    model, head, path = marked
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(path)
    want = []
    for solution in SOLUTIONS:
        answer = "<extra_0>".join(solution.steps) + "<extra_0>"
        turns = (("system", SYSTEM), ("user", solution.problem), ("assistant", answer))
        text = tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in turns], tokenize=False
        )
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            logits = head(model(ids).last_hidden_state)[0]
        want.append(softmax(logits[ids[0] == 3])[:, 1])
    close(step_scorer(path, ReadConfig(batch_size=1), "\n", QUIET)(SOLUTIONS), want)


@pytest.mark.parametrize(("name", "number"), [("mistral", 0), ("gemma2", 0)])
def test_words_of_a_language_model(name, number, tmp_path):
    """Gemma 2 caps its logits."""
    model = scatter(
        transformers.AutoModelForCausalLM.from_config(
            configuration(name, number), attn_implementation="eager"
        )
    )
    model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    want = []
    for solution in SOLUTIONS:
        steps = (f"Step {i + 1}: {step} ки" for i, step in enumerate(solution.steps))
        text = f"{solution.problem} " + "\n".join(steps)
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            logits = model(ids).logits[0]
        want.append(softmax(logits[ids[0] == 4][:, [5, 6]])[:, 0])
    close(step_scorer(tmp_path, ReadConfig(), "\n", QUIET)(SOLUTIONS), want)


def changed(path, place, tensors=None, **fields):
    """A copy of a directory with other fields of config.json, or other tensors."""
    shutil.copytree(path, place)
    config = json.loads((place / "config.json").read_text()) | fields
    (place / "config.json").write_text(json.dumps(config))
    if tensors is not None:
        found = tensors(load_file(place / "model.safetensors"))
        save_file(found, place / "model.safetensors", metadata={"format": "pt"})
    return place


def refused(path, match, solutions=SOLUTIONS, **read):
    with pytest.raises(InputError, match=match):
        step_scorer(path, ReadConfig(**read), "\n", QUIET)(solutions)


def test_what_is_no_process_reward_model_is_refused(marked, tmp_path):
    path = marked[2]
    kind = "architectures"
    olmo = changed(path, tmp_path / "a", model_type="olmo2", architectures=["Olmo2ForTokens"])
    with pytest.raises(InputError, match=r"a/config.json: .*olmo2 has no ForTokenClassification"):
        describe_process_reward(olmo)
    score = changed(path, tmp_path / "b", architectures=["Qwen2ForSequenceClassification"])
    refused(score, r"b/config.json: architectures: \[\"Qwen2ForSeq.* is no process reward model;")
    refused(changed(path, tmp_path / "c", id2label={"0": "x"}), "one label, x, has no probability")
    other = lambda tensors: {k.replace("score.2", "score.4"): v for k, v in tensors.items()}
    place = changed(path, tmp_path / "d", other)
    refused(place, r"d: the head has the tensors score.0.bias, .*score.4.*known is one of score.0")
    names = {"0": "up", "1": "down"}
    place = changed(path, tmp_path / "e", id2label=names, **{kind: ["Qwen2ForProcessRewardModel"]})
    refused(place, r"has the labels up, down; say which one means .*--read.label down")
    refused(path, r"the labels LABEL_0, LABEL_1; no 'good'", label="good")


def test_a_label_by_name_is_the_other_probability(marked):
    path = marked[2]
    both = [step_scorer(path, ReadConfig(label=label), "\n", QUIET)(SOLUTIONS)
            for label in (None, "LABEL_0")]  # fmt: skip
    for one, other in zip(*both, strict=True):
        np.testing.assert_allclose(one + other, 1.0, atol=1e-6)
    assert good_label(("bad", "Good"), None, "") == 1


def test_a_tokenizer_without_the_step_token_is_refused(marked, tmp_path):
    path = shutil.copytree(marked[2], tmp_path / "lacks")
    write_tokenizer(path, lacking=("<extra_0>",))
    refused(path, r"lacks: the tokenizer has no token <extra_0>, which the model reads")


def test_a_solution_that_is_read_otherwise_is_refused(marked):
    path = marked[2]
    twice = [replace(SOLUTIONS[0], steps=["a <extra_0> b", "c"])]
    refused(path, "x:1: 2 steps, but 3 tokens at which they are judged", twice)
    long = [replace(SOLUTIONS[0], steps=["abc" * 80])]
    refused(path, r"x:1: the solution has \d+ tokens, over the model's 256", long)
