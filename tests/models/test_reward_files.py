"""Reward models of every family against transformers: scores, the position that is read, files."""

import copy
import functools
import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from irl_jax.models.decoder import forward
from irl_jax.models.heads import apply_scalar_head
from irl_jax.models.huggingface import load_huggingface, save_huggingface
from irl_jax.models.reward_files import (
    is_model_directory,
    load_reward_model,
    pick_label,
    read_index,
    save_reward_model,
)
from irl_jax.types import InputError
from tests.models.families import FAMILIES
from tests.models.torch_models import random_model, torch, transformers

CASES = [(name, i) for name, configs in FAMILIES.items() for i in range(len(configs))]
ROWS, COLUMNS, PAD = 4, 20, 7
LENGTHS = np.array([20, 3, 11, 16])


def random_reward(config, labels, bias=False, pad=PAD, seed=0):
    """A model of transformers all of whose parameters matter, with a head of some labels."""
    config = copy.deepcopy(config)
    config.pad_token_id = pad
    config.num_labels = labels
    torch.manual_seed(seed)
    model = transformers.AutoModelForSequenceClassification.from_config(
        config, attn_implementation="eager"
    )
    if bias:
        model.score = torch.nn.Linear(model.score.in_features, labels, bias=True)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.normal_(0.0, 1.5 * parameter.shape[-1] ** -0.5)
    return model.eval()


def theirs(model, tokens, mask):
    with torch.no_grad():
        out = model(torch.tensor(tokens), attention_mask=torch.tensor(mask.astype(int)))
    return out.logits.numpy()


def padded(vocab_size, side, seed=0):
    """Rows of several lengths; padding stands inside of one, too."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(8, vocab_size, (ROWS, COLUMNS))
    tokens[0, 5] = tokens[3, 9] = PAD
    columns = np.arange(COLUMNS)
    mask = columns < LENGTHS[:, None] if side == "right" else columns >= 20 - LENGTHS[:, None]
    return np.where(mask, tokens, PAD), mask


@functools.partial(jax.jit, static_argnums=0)
def values(config, params, head, tokens, mask):
    return apply_scalar_head(head, forward(config, params, tokens, mask=mask)[0])


def ours(model, tokens, mask, pad=PAD):
    each = np.asarray(values(model.config, model.params, model.head, tokens, mask))
    return np.stack([row[read_index(ids, pad)] for row, ids in zip(each, tokens, strict=True)])


def relative(got, want):
    return np.abs(got - want).max() / np.abs(want).max()


@pytest.mark.parametrize(("name", "number"), CASES)
def test_scores_of_every_family(name, number, tmp_path):
    """One label or three, a bias or none, padding on either side; and written again."""
    labels, bias = (1, 3)[number], number == 1
    model = random_reward(FAMILIES[name][number], labels, bias)
    model.save_pretrained(tmp_path / "theirs")
    found = load_reward_model(tmp_path / "theirs")
    assert found.pad_token_id == PAD and len(found.labels) == labels
    for side in ("left", "right"):
        tokens, mask = padded(found.config.vocab_size, side)
        want = theirs(model, tokens, mask)
        got = ours(found, tokens, mask).reshape(ROWS, labels)
        assert relative(got, want) < 1e-4, side
    if labels == 1:
        save_reward_model(
            tmp_path / "ours", found.config, found.params, found.head["kernel"], pad_token_id=PAD
        )
        exported = transformers.AutoModelForSequenceClassification.from_pretrained(
            tmp_path / "ours", attn_implementation="eager"
        ).eval()
        assert type(exported) is type(model) and exported.config.id2label == {0: "reward"}
        np.testing.assert_array_equal(theirs(exported, tokens, mask), want)
        again = load_reward_model(tmp_path / "ours")
        assert again.config == found.config and again.pad_token_id == PAD
        jax.tree.map(np.testing.assert_array_equal, again.params, found.params)
        jax.tree.map(np.testing.assert_array_equal, again.head, found.head)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model of transformers with two named labels, and its directory."""
    config = copy.deepcopy(FAMILIES["qwen3"][1])
    config.id2label = {0: "helpful", 1: "brief"}
    model = random_reward(config, 2)
    path = tmp_path_factory.mktemp("reward") / "model"
    model.save_pretrained(path)
    return model, path


@pytest.mark.parametrize(
    ("tokens", "pad"),
    [
        ([5, 9, 7, 7], 7), ([7, 7, 5, 9], 7), ([5, 7, 9, 7], 7), ([5, 9, 8, 10], 7),
        ([7, 7, 7, 7], 7), ([5, 9, 7, 7], None), ([7], None), ([0, 5, 0], 0),
    ],
)  # fmt: skip
def test_the_position_is_the_one_that_transformers_reads(saved, tokens, pad):
    model, _ = saved
    model.config.pad_token_id = pad
    row = torch.tensor([tokens])
    with torch.no_grad():
        hidden = model.model(row).last_hidden_state
        each, read = model.score(hidden)[0].numpy(), model(row).logits[0].numpy()
    model.config.pad_token_id = PAD
    np.testing.assert_allclose(each[read_index(tokens, pad)], read, rtol=1e-5)


def test_labels_are_rewards_by_name(saved):
    _, path = saved
    found = load_reward_model(path)
    assert found.labels == ("helpful", "brief") and found.head["kernel"].shape == (32, 2)
    for i, label in enumerate(found.labels):
        head = found.scalar_head(pick_label(found.labels, label, path))
        np.testing.assert_array_equal(head["kernel"], found.head["kernel"][:, i])
        assert head["bias"].shape == ()
    with pytest.raises(InputError, match=r"model: has the labels helpful, brief; say which one"):
        pick_label(found.labels, None, path)
    with pytest.raises(InputError, match=r"has the labels helpful, brief, but no 'long'"):
        pick_label(found.labels, "long", path)


def test_config_of_two_labels_that_transformers_leaves_unsaid(tmp_path):
    model = random_reward(FAMILIES["llama"][1], 2)
    model.save_pretrained(tmp_path)
    assert "id2label" not in json.loads((tmp_path / "config.json").read_text())
    assert load_reward_model(tmp_path).labels == ("LABEL_0", "LABEL_1")


def test_a_bias_shifts_and_an_unembedding_does_nothing(saved, tmp_path):
    _, path = saved
    shutil.copytree(path, tmp_path / "model")
    tensors = load_file(path / "model.safetensors")
    more = {"score.bias": np.array([1.0, -2.0], np.float32), "lm_head.weight": np.ones((61, 32))}
    save_file(tensors | more, tmp_path / "model" / "model.safetensors")
    plain, shifted = load_reward_model(path), load_reward_model(tmp_path / "model")
    tokens, mask = padded(61, "right")
    difference = ours(shifted, tokens, mask) - ours(plain, tokens, mask)
    np.testing.assert_allclose(difference, np.tile([1.0, -2.0], (ROWS, 1)), atol=1e-5)
    assert not np.asarray(plain.head["bias"]).any()


def changed_fields(**fields):
    def change(path):
        stated = json.loads((path / "config.json").read_text()) | fields
        (path / "config.json").write_text(json.dumps(stated))

    return change


def changed_tensors(change):
    def write(path):
        tensors = load_file(path / "model.safetensors")
        change(tensors)
        save_file(tensors, path / "model.safetensors")

    return write


WRONG = {
    "missing head": (
        changed_tensors(lambda t: t.pop("score.weight")),
        r"tensor score\.weight is missing \(expected shape \[2, 32\]\)",
    ),
    "another shape": (
        changed_tensors(lambda t: t.update({"score.weight": np.ones((2, 16), np.float32)})),
        r"tensor score\.weight: expected shape \[2, 32\], found \[2, 16\]",
    ),
    "another number of labels": (
        changed_fields(id2label={"0": "a"}),
        r"tensor score\.weight: expected shape \[1, 32\], found \[2, 32\]",
    ),
    "bias of another shape": (
        changed_tensors(lambda t: t.update({"score.bias": np.ones(3, np.float32)})),
        r"tensor score\.bias: expected shape \[2\], found \[3\]",
    ),
    "labels not numbered": (changed_fields(id2label={"1": "a", "2": "b"}), r"json: id2label: exp"),
    "labels contradicted": (changed_fields(num_labels=3), r"config\.json: id2label: expected"),
    "no labels": (changed_fields(id2label=None, num_labels=0), r"config\.json: num_labels: exp"),
    "unsupported family": (
        changed_fields(model_type="deberta-v2", architectures=["DebertaForSequenceClassification"]),
        r'config\.json: model_type "deberta-v2" is not supported; only llama',
    ),
    "another class": (
        changed_fields(architectures=["Qwen3ForRewardModel"]),
        r'architectures: expected \["Qwen3ForSequenceClassification"\], found \["Qwen3ForReward',
    ),
    "a language model": (
        changed_fields(architectures=["Qwen3ForCausalLM"]),
        r"model: is a language model \(Qwen3ForCausalLM\), no reward model; expected Qwen3ForSeq",
    ),
    "padding outside": (changed_fields(pad_token_id=61), r"pad_token_id: expected an id below 61"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_directories_are_one_line(saved, case, tmp_path):
    change, says = WRONG[case]
    path = shutil.copytree(saved[1], tmp_path / "model")
    change(path)
    with pytest.raises(InputError, match=says) as error:
        load_reward_model(path)
    assert "\n" not in str(error.value)


def test_a_reward_model_is_no_language_model(saved, tmp_path):
    _, path = saved
    with pytest.raises(InputError, match=r"model: is a reward model \(Qwen3ForSequenceClassific"):
        load_huggingface(path)
    assert is_model_directory(path) and not is_model_directory(tmp_path)


def test_what_cannot_be_written(saved, tmp_path):
    found = load_reward_model(saved[1])
    place = tmp_path / "out"
    with pytest.raises(InputError, match=r"kernel: expected \[32\], got \[32, 2\]"):
        save_reward_model(place, found.config, found.params, found.head["kernel"])
    kernel = found.head["kernel"][:, 0]
    with pytest.raises(InputError, match="pad_token_id: expected an id below 61, found 61"):
        save_reward_model(place, found.config, found.params, kernel, pad_token_id=61)
    assert not place.exists()
    save_reward_model(place, found.config, found.params, kernel, own={"bias": 0.5})
    own = load_reward_model(place)
    assert own.own == {"bias": 0.5}
    assert (own.head["bias"], own.scalar_head(0)["bias"]) == (0.0, 0.5)
    with pytest.raises(InputError, match="exists and is not empty"):
        save_reward_model(place, found.config, found.params, kernel)


def test_a_mistral_without_windows(tmp_path):
    """Its computation is Llama's, its class is not."""
    config = copy.deepcopy(FAMILIES["mistral"][1])
    config.sliding_window = None
    random_reward(config, 1).save_pretrained(tmp_path)
    assert load_reward_model(tmp_path).labels == ("LABEL_0",)


def test_an_unembedding_is_left_out(tmp_path):
    """Of a language model whose embedding is not tied."""
    random_model(FAMILIES["llama"][0]).save_pretrained(tmp_path / "lm")
    config, params = load_huggingface(tmp_path / "lm")
    assert "unembed" in params
    kernel = np.arange(32, dtype=np.float32)
    save_reward_model(tmp_path / "out", config, params, kernel)
    found = load_reward_model(tmp_path / "out")
    np.testing.assert_array_equal(found.head["kernel"], kernel)
    save_huggingface(tmp_path / "again", config, params)
    assert load_huggingface(tmp_path / "again")[0] == config
