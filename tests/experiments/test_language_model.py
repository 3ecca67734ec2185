"""A model and a tokenizer that are put together: ends, ids, another tokenizer, the export."""

import io
import json
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.data.tokenizer import Tokenizer
from irl_jax.models.decoder import DecoderConfig, init_params
from irl_jax.models.huggingface import save_huggingface
from irl_jax.models.mesh import make_mesh
from irl_jax.models.pretrained import minilm_path
from irl_jax.recipes.embeddings import embed_texts
from irl_jax.recipes.export import export
from irl_jax.recipes.language_model import load_language_model
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import LanguageModel, Session
from irl_jax.train.progress import Progress
from irl_jax.types import InputError, Prompt

QUIET = Progress(io.StringIO())
TEXTS = [f"It is {word} and {other}." for word in ("good", "bad") for other in ("old", "new")] * 5


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A SentencePiece tokenizer and its directory."""
    place = tmp_path_factory.mktemp("tokenizer")
    return Tokenizer.train_sentencepiece(TEXTS, 300, place), place


@pytest.fixture
def directory(tmp_path, tokenizer):
    """Writes a model of so many rows beside the tokenizer."""

    def build(rows=0, name="model", **files):
        config = DecoderConfig(
            vocab_size=tokenizer[0].vocab_size + rows, d_model=8, n_layers=1, n_heads=2,
            n_kv_heads=1, head_dim=4, d_ff=8, max_positions=32,
        )  # fmt: skip
        save_huggingface(tmp_path / name, config, init_params(config, jax.random.key(0)))
        tokenizer[0].save(tmp_path / name)
        for file, fields in files.items():
            (tmp_path / name / f"{file}.json").write_text(json.dumps(fields))
        return tmp_path / name

    return build


def load(path, tokenizer=None):
    return load_language_model(
        str(path), path, seed=0, dtype="float32", progress=QUIET, tokenizer=tokenizer
    )


def sample(model):
    """Completions in columns and their mask, by way of a session."""
    session = Session.create(
        model, make_mesh(1), prompt_width=2, max_new_tokens=8, sampling=Sampling()
    )
    prompt = Prompt(jnp.full((2, 2), 5, jnp.int32), jnp.ones((2, 2), bool))
    return jax.device_get(session.sample(session.model.params, prompt, jax.random.key(0), 60))


def test_every_end_stops_a_completion_and_survives_the_export(directory, tokenizer, tmp_path):
    eos = tokenizer[0].eos_id
    others = [i for i in range(10, 110) if i != eos]
    model = load(directory(generation_config={"eos_token_id": others, "top_k": 5}))
    assert model.eos_ids == (eos, *others)
    group = sample(model)
    last = np.take_along_axis(group.action, group.mask.sum(-1)[..., None] - 1, -1)[..., 0]
    np.testing.assert_array_equal(np.isin(last, model.eos_ids), group.terminated)
    assert len(set(last[group.terminated])) > 10
    place = export(tmp_path, model, model.params, dtype="float32")
    generation = json.loads((place / "generation_config.json").read_text())
    assert generation == {"eos_token_id": [eos, *others], "pad_token_id": tokenizer[0].pad_id}
    assert json.loads((place / "config.json").read_text())["eos_token_id"] == eos
    again = load(place)
    assert again.eos_ids == model.eos_ids and again.config == model.config
    (tmp_path / "next").mkdir()
    assert (export(tmp_path / "next", again, again.params, dtype="float32")).is_dir()
    for file in place.glob("*.json"):
        assert (tmp_path / "next" / "export" / file.name).read_text() == file.read_text()


def test_one_end_is_the_tokenizers(directory, tokenizer):
    assert load(directory()).eos_ids == (tokenizer[0].eos_id,)
    wrong = directory(name="wrong", generation_config={"eos_token_id": 100_000})
    with pytest.raises(InputError, match=r"generation_config\.json: eos_token_id: expected ids"):
        load(wrong)


def test_more_ids_than_rows_are_refused(directory, tokenizer):
    ids = tokenizer[0].vocab_size
    with pytest.raises(InputError, match=f"the tokenizer has {ids} ids, the embedding {ids - 3} r"):
        load(directory(-3))


def test_rows_of_padding_are_never_sampled_and_decode_to_nothing(directory, tokenizer):
    ids = tokenizer[0].vocab_size
    model = load(directory(1000))
    assert model.config.vocab_size == ids + 1000 and model.config.used_vocab == ids
    assert sample(model).action.max() < ids
    free = LanguageModel(replace(model.config, used_vocab=None), model.params, model.tokenizer)
    assert sample(free).action.max() >= ids  # they would be
    decode = model.tokenizer.decode
    text = tokenizer[0].encode("It is good")
    assert decode([*text, ids, ids + 999]) == decode([ids, *text]) == decode(text) == "It is good"
    assert decode([ids, ids + 5]) == decode([ids], skip_special=False) == ""


def test_another_tokenizer(directory, tokenizer, tmp_path):
    """For a model whose own is missing or cannot be read."""
    place = directory()
    for file in ("tokenizer.model", "tokenizer_config.json"):
        (place / file).unlink()
    with pytest.raises(InputError, match="tokenizer"):
        load(place)
    assert load(place, tokenizer[1]).tokenizer.encode("It is") == tokenizer[0].encode("It is")
    with pytest.raises(InputError, match="absent"):
        load(place, tmp_path / "absent")
    with pytest.raises(InputError, match="the tiny model has its own"):
        load_language_model(
            "tiny", tmp_path, seed=0, dtype="float32", progress=QUIET, tokenizer=tokenizer[1]
        )


def test_a_sentence_encoder_of_another_tokenizer_is_refused(tmp_path):
    try:
        own = minilm_path()
    except InputError:
        pytest.skip("all-MiniLM-L6-v2 is not installed: make install-all")
    place = tmp_path / "encoder"
    place.mkdir()
    for file in own.iterdir():
        (place / file.name).symlink_to(file)
    (place / "tokenizer.json").unlink()
    shutil.copy(own / "tokenizer.json", place)
    held = json.loads((place / "tokenizer.json").read_text())
    held["added_tokens"].append(held["added_tokens"][-1] | {"id": 30522, "content": "<more>"})
    (place / "tokenizer.json").write_text(json.dumps(held))
    with pytest.raises(InputError, match="the tokenizer has 30523 ids, the embedding 30522 rows"):
        embed_texts(place, ["a"], max_tokens=8, batch_size=1, advance=lambda done, metrics: None)
