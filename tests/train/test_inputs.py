import hashlib
import json

import pytest

from irl_jax.train.inputs import identities, sha256_of
from irl_jax.types import InputError


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_its_content(tmp_path):
    path = tmp_path / "prefs.jsonl"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(path, "data") == known
    assert identities({"data": path, "model": None}) == {"data": known}


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "chat_template.jinja").write_text("{{ messages }}")
    return path


def test_a_directory_is_what_is_read_of_it(model):
    (model / "model.safetensors").write_bytes(b"weights")
    lines = [
        f"{sha256(b'{{ messages }}')}  chat_template.jinja\n",
        f"{sha256(b'{}')}  config.json\n",
        f"{sha256(b'weights')}  model.safetensors\n",
    ]
    first = sha256_of(model, "model")
    assert first == sha256("".join(lines).encode())
    for unread in ("README.md", "consolidated.safetensors", ".hidden.json", "pytorch_model.bin"):
        (model / unread).write_bytes(b"other")
        assert sha256_of(model, "model") == first
    for read in ("tokenizer.model", "generation_config.json", "merges.txt"):
        (model / read).write_bytes(b"")
        assert sha256_of(model, "model") != first
        (model / read).unlink()
    (model / "config.json").rename(model / "other.json")
    assert sha256_of(model, "model") != first


def test_shards_are_those_that_the_index_names(model):
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "one.safetensors", "v": "gone.safetensors"}}))
    for name in ("one", "two"):
        (model / f"{name}.safetensors").write_bytes(b"1")
    first = sha256_of(model, "model")
    (model / "two.safetensors").write_bytes(b"2")
    assert sha256_of(model, "model") == first
    (model / "one.safetensors").write_bytes(b"2")
    assert sha256_of(model, "model") != first


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"^data\.path: \S+/none: no such file or directory; che"):
        identities({"data.path": tmp_path / "none"})
