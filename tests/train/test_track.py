from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest

from irl_jax.train import track
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError


class Writer:
    """Stands for tensorboardX's writer and for a run of wandb."""

    def __init__(self, *where, **settings):
        self.where, self.settings, self.told, self.open = where, settings, [], True

    def add_scalar(self, name, value, step, time):
        self.told.append((name, value, step))

    def log(self, metrics):
        self.told.append(metrics)

    def close(self):
        self.open = False

    finish = close


@pytest.fixture
def made(monkeypatch):
    """Writers that were made, in place of the packages'."""
    found = []

    def make(*where, **settings):
        found.append(Writer(*where, **settings))
        return found[-1]

    package = SimpleNamespace(SummaryWriter=make, init=make)
    monkeypatch.setattr(importlib, "import_module", lambda name: package)
    return found


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb"])
def test_every_row_of_metrics_is_told(tracker, made, tmp_path):
    with (
        track.tracked(tracker, tmp_path, {"lr": 1}) as sinks,
        RunDirectory(tmp_path, {"lr": 1}, sinks) as run,
    ):
        run.log(1, {"loss": 0.5, "kl": float("nan")}, "policy")
        run.log(2, {"loss": 0.25}, "policy")
    (writer,) = made
    assert not writer.open
    if tracker == "tensorboard":
        assert writer.told == [("policy/loss", 0.5, 1), ("policy/loss", 0.25, 2)]
        assert writer.where == (str(tmp_path / "tensorboard"),)
    else:
        assert writer.told[1] == {"policy/loss": 0.25, "policy/step": 2}
        assert writer.settings["config"] == {"lr": 1}
    assert [row["loss"] for row in run.metrics()] == [0.5, 0.25]  # still written


def test_nothing_is_told_unless_asked(made, tmp_path):
    with track.tracked(None, tmp_path, {}) as sinks:
        assert sinks == () and not made


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(track.PACKAGES, "wandb", "no_such_package")
    with pytest.raises(InputError, match=r'pip install "irl_jax\[track\]"'):
        track.load_tracker("wandb")
