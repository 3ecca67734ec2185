"""Models and tokenizers that agree or do not, and the tokens that end a completion."""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from irl_jax.models.decoder import forward, logits
from irl_jax.models.logprob import (
    completion_hidden_logp,
    completion_logp,
    completion_logp_collision,
    completion_logp_kl,
    sequence_logp,
)
from irl_jax.models.vocabulary import check_vocabulary, read_eos_ids, with_vocabulary
from irl_jax.types import InputError
from tests.models.cases import CONFIG, assert_near, assert_trees_near, context, random_params

USED = 13  # of the 19 rows


@pytest.fixture
def model(tmp_path):
    """Writes config.json and generation_config.json with these ids; absent where None."""

    def build(config=None, generation=None):
        for name, fields in (("config", config), ("generation_config", generation)):
            if fields is not None:
                (tmp_path / f"{name}.json").write_text(json.dumps(fields))
        return tmp_path

    return build


@pytest.mark.parametrize(
    ("config", "generation", "wanted"),
    [
        ({"eos_token_id": 2}, None, (2,)),
        ({"eos_token_id": [5, 2, 5]}, None, (5, 2)),
        ({}, None, ()),
        ({"eos_token_id": None}, None, ()),
        ({"eos_token_id": 2}, {"eos_token_id": [7, 3]}, (7, 3)),
        ({"eos_token_id": [2, 1]}, {"eos_token_id": 7, "temperature": 0.6}, (7,)),
        ({"eos_token_id": 2}, {}, ()),  # the file is there: transformers looks no further
        ({"eos_token_id": 2}, {"eos_token_id": None}, ()),
        ({"eos_token_id": "x"}, {"eos_token_id": 0}, (0,)),
    ],
)
def test_where_a_completion_ends(model, config, generation, wanted):
    assert read_eos_ids(model(config, generation), 19) == wanted


@pytest.mark.parametrize(
    ("config", "generation", "wanted"),
    [
        ({"eos_token_id": [5, 2]}, None, [5, 2]),
        ({"eos_token_id": 2}, {"eos_token_id": [7, 3]}, [7, 3]),
        ({"eos_token_id": [2, 1]}, {"eos_token_id": 7}, 7),
        ({"eos_token_id": 2}, {"pad_token_id": 1}, None),
    ],
)
def test_transformers_reads_the_same_ends(model, config, generation, wanted):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    place = model({"model_type": "llama"} | config, generation)
    shape = transformers.LlamaConfig(
        hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8,
        vocab_size=19, **config,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(shape).save_pretrained(place)
    model(json.loads((place / "config.json").read_text()) | config, generation)
    if generation is None:
        (place / "generation_config.json").unlink()
    found = transformers.AutoModelForCausalLM.from_pretrained(place).generation_config.eos_token_id
    assert found == wanted
    assert list(read_eos_ids(place, 19)) == ([] if wanted is None else np.ravel(wanted).tolist())


@pytest.mark.parametrize("value", [19, -1, "2", True, 2.0, [], [2, 19], [2, "x"], [True], {"a": 1}])
@pytest.mark.parametrize("generation", [False, True])
def test_ends_that_are_no_ids(model, value, generation):
    wrong = {"eos_token_id": value}
    place = model({"eos_token_id": 2}, wrong) if generation else model(wrong)
    with pytest.raises(InputError) as caught:
        read_eos_ids(place, 19)
    name = "generation_config.json" if generation else "config.json"
    assert str(caught.value).startswith(f"{place / name}: eos_token_id")
    assert "\n" not in str(caught.value)


def test_a_broken_generation_config_is_named(model, tmp_path):
    place = model({"eos_token_id": 2})
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(InputError, match=r"generation_config\.json: broken JSON"):
        read_eos_ids(place, 19)


def test_the_ends_of_a_gguf_file(tmp_path):
    """llama.cpp also stops at the end of a turn and of a message."""
    gguf = pytest.importorskip("gguf")
    for name, ids, wanted in (
        ("all", {"eos": 2, "eot": 7, "eom": 5}, (2, 7, 5)),
        ("same", {"eos": 2, "eot": 2}, (2,)),
        ("none", {}, ()),
    ):
        writer = gguf.GGUFWriter(tmp_path / f"{name}.gguf", "llama")
        for kind, i in ids.items():
            writer.add_uint32(f"tokenizer.ggml.{kind}_token_id", i)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        assert read_eos_ids(tmp_path / f"{name}.gguf", 19) == wanted
    with pytest.raises(InputError, match=r"all\.gguf: tokenizer\.ggml\.eot_token_id: .* found 7"):
        read_eos_ids(tmp_path / "all.gguf", 7)


def test_more_ids_than_rows_are_refused():
    with pytest.raises(InputError, match=r"^place: the tokenizer has 425 ids, the embedding 422"):
        check_vocabulary("place", 425, 422)
    with pytest.raises(InputError, match="20 ids"):
        with_vocabulary(CONFIG, 20, "place")
    assert with_vocabulary(CONFIG, 19, "place") == CONFIG
    assert with_vocabulary(CONFIG, USED, "place") == replace(CONFIG, used_vocab=USED)
    assert with_vocabulary(replace(CONFIG, used_vocab=3), 19, "place") == CONFIG
    for wrong in (0, 20):
        with pytest.raises(InputError, match="used_vocab: expected 1 to 19"):
            replace(CONFIG, used_vocab=wrong)


@pytest.fixture(scope="module", params=[False, True], ids=["own unembedding", "tied"])
def padded(request):
    """A model with 6 rows of padding that shout, and the same model without them."""
    config = replace(CONFIG, used_vocab=USED, tie_embeddings=request.param)
    flat = dict(flatten_dict(random_params(config), sep="/"))
    for path, cut in (("embed/embedding", np.s_[USED:]), ("unembed/kernel", np.s_[:, USED:])):
        if path in flat:
            flat[path] = flat[path].at[cut].multiply(50.0)
    small = flat | {"embed/embedding": flat["embed/embedding"][:USED]}
    if "unembed/kernel" in flat:
        small["unembed/kernel"] = flat["unembed/kernel"][:, :USED]
    cut_config = replace(config, vocab_size=USED, used_vocab=None)
    tree = lambda flat: unflatten_dict(flat, sep="/")
    return config, tree(flat), cut_config, tree(small)


def test_padding_has_no_probability(padded):
    """Log-probs, divergences and gradients are those of a model that has no such rows."""
    config, params, small, small_params = padded
    rng = np.random.default_rng(0)
    action = jnp.asarray(rng.integers(0, USED, (3, 2, 4)), jnp.int32)
    prompt = replace(context(), tokens=context().tokens % USED)
    other = jax.tree.map(lambda x: 0.9 * x, (params, small_params))
    segment = jnp.array([[1, 1, 1, 2, 2, 0]])
    tokens = jnp.asarray(rng.integers(0, USED, (1, 6)), jnp.int32)

    def everything(config, params, reference):
        found = (
            completion_logp_kl(config, params, reference, prompt, action),
            sequence_logp(config, params, tokens, segment),
        )
        if config.tie_embeddings:  # read by the same functions, whatever is made of the scores
            return found
        return (
            *found,
            completion_logp(config, params, prompt, action, temperature=0.7),
            completion_hidden_logp(config, params, prompt, action)[1],
            completion_logp_collision(config, params, prompt, action),
        )

    @partial(jax.jit, static_argnums=0)
    def run(config, params, reference):
        def total(params, reference):
            found = everything(config, params, reference)
            return sum(x.sum() for x in jax.tree.leaves(found)), found

        return jax.grad(total, (0, 1), has_aux=True)(params, reference)

    slopes, found = run(config, params, other[0])
    small_slopes, expected = run(small, small_params, other[1])
    assert_trees_near(found, expected)
    for own, want in zip(slopes, small_slopes, strict=True):
        own, want = flatten_dict(own, sep="/"), flatten_dict(want, sep="/")
        assert not own["embed/embedding"][USED:].any()  # nothing reads or predicts them
        assert_near(own["embed/embedding"][:USED], want["embed/embedding"], 1e-4)
        assert_near(own["layers/attn/q/kernel"], want["layers/attn/q/kernel"], 1e-4)


def test_scores_of_padding_are_minus_infinity(padded):
    config, params, small, small_params = padded
    hidden, _ = forward(config, params, context().tokens % USED)
    found = logits(config, params, hidden)
    assert found.shape[-1] == 19
    assert jnp.isneginf(found[..., USED:]).all()
    assert_near(found[..., :USED], logits(small, small_params, hidden))
