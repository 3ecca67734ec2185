from __future__ import annotations

import json
from dataclasses import replace

import pytest

from irl_jax.losses.table import look_up
from irl_jax.recipes.align_config import AlignConfig
from irl_jax.recipes.cli import parse
from irl_jax.recipes.commands import last_value, without
from irl_jax.recipes.options import (
    as_options,
    digest,
    find_loss,
    load_function,
    make_options,
    with_options,
)
from irl_jax.recipes.score_config import CONFIG as SCORE
from irl_jax.recipes.settings import as_flags, read_settings
from irl_jax.types import InputError
from tests.experiments.conftest import complaint

OWN = """
import jax.numpy as jnp
from irl_jax.losses import pairwise
from irl_jax.masking import masked_sum

LIMIT = 3

def mine(logp, ref_logp, batch, *, delta=1.0):
    ratio = masked_sum(logp - ref_logp, batch.mask, axis=-1)
    return pairwise(ratio, batch, link=lambda z: jnp.maximum(delta - z, 0.0))

def odd(logp, batch, *, table={}):
    return None
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def given(name):
    return with_options(AlignConfig(loss=name), look_up(name))


def test_flags_of_the_loss_are_its_hyper_parameters():
    config = parse(given("simpo"), ["--loss", "simpo", "--loss.gamma", "0.25", "--lr", "1e-3"])
    assert as_options(config.options) == {"beta": 2.0, "gamma": 0.25}
    assert config.lr == 1e-3
    two = parse(given("dapo"), ["--loss.clip", "0.1", "0.3"])
    assert as_options(two.options) == {"clip": (0.1, 0.3), "beta": 0.0}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--loss.gama", "1"], "options: --loss.gama, 1 Perhaps you meant: --loss.gamma "),
        (["--loss.beta", "x"], "--loss.beta: could not convert string to float"),
        (["--lora.rnak", "1"], "options: --lora.rnak, 1 Perhaps you meant: --lora.rank "),
    ],
)
def test_a_wrong_flag_is_named(args, message, capsys):
    with pytest.raises(SystemExit):
        parse(given("simpo"), args)
    assert message in complaint(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--loss.beta", "nan"], "--loss.beta: nan; expected a finite number"),
        (["--lr", "0"], "lr: expected a number in"),
    ],
)
def test_a_value_out_of_range_is_named(args, message):
    with pytest.raises(InputError) as error:
        parse(given("simpo"), args)
    assert message in str(error.value)


def test_a_users_loss_is_found_in_a_file_and_in_a_module(own, monkeypatch):
    row = find_loss(f"{own}:mine")
    assert (row.kind, row.form, dict(row.defaults)) == ("pairs", "reference", {"delta": 1.0})
    monkeypatch.chdir(own.parent)
    assert load_function("own:mine", "loss").__name__ == "mine"
    assert len(digest("own:mine", "loss")) == 64


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("simpoo", "did you mean simpo"),
        ("{}:theirs", "has no function theirs"),
        ("{}:mime", "has no function mime; did you mean mine"),
        ("{}:LIMIT", "has no function LIMIT"),
        ("/nowhere/own.py:mine", "/nowhere/own.py: no such file"),
        ("no_such_module:mine", "there is no module no_such_module"),
    ],
)
def test_a_loss_that_is_not_there_is_named(own, name, message):
    with pytest.raises(InputError) as error:
        find_loss(name.format(own))
    assert message in str(error.value)


def test_a_default_that_no_flag_can_hold_is_refused(own):
    with pytest.raises(InputError, match="gives table a default that no flag can hold"):
        make_options(find_loss(f"{own}:odd"))


def test_an_error_inside_a_users_module_stays_its_own(tmp_path, monkeypatch):
    (tmp_path / "broken_one.py").write_text("import no_such_dependency\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        find_loss("broken_one:mine")


def test_settings_of_a_file_become_flags(tmp_path):
    settings = {
        "loss": "simpo",
        "options": {"gamma": 0.5},
        "data": {"path": "a b.jsonl", "add_bos": None},
        "remat": "full",
        "mesh": {"data": 1},
        "sha256": {"model": "0" * 64},
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    found = read_settings(tmp_path / "config.json")
    config = parse(given("simpo"), [*as_flags(found, given("simpo")), "--mesh.data", "2"])
    assert str(config.data.path) == "a b.jsonl"
    assert (config.options.gamma, config.remat, config.mesh.data) == (0.5, "full", 2)
    for held_out in (True, False):
        flags = as_flags({"held_out": held_out}, SCORE)
        found = parse(replace(SCORE, held_out=not held_out), flags)
        assert found.held_out is held_out


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", "lr = 0.5\n[options]\nbeta = 3.0\n"),
        ("c.yaml", "lr: 0.5\noptions:\n  beta: 3.0\n"),
    ],
)
def test_settings_in_toml_and_yaml(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    config = given("dpo")
    config = parse(config, as_flags(read_settings(tmp_path / name), config))
    assert (config.lr, config.options.beta) == (0.5, 3.0)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.json", "{", "c.json"),
        ("c.toml", "lr = ", "c.toml"),
        ("c.yaml", "lr: [", "c.yaml"),
        ("c.yaml", "- lr", "holds no mapping"),
        ("none.toml", None, "none.toml"),
    ],
)
def test_a_damaged_file_of_settings_is_named(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as error:
        read_settings(tmp_path / name)
    assert message in str(error.value)


@pytest.mark.parametrize("settings", [{"lora": 3}, {"lr": {"peak": 1}}])
def test_a_group_of_settings_is_no_value(settings):
    with pytest.raises(InputError, match="see --help-all"):
        as_flags(settings, given("dpo"))


def test_flags_are_looked_up_before_they_are_parsed():
    assert last_value(["--loss=a", "--loss", "b"], "loss") == "b"
    assert last_value(["--loss"], "loss") is None
    assert without(["--config=x", "--lr", "1", "--config", "y"], "config") == ["--lr", "1"]
