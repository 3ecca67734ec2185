"""The package offers every loss and every part of one by its own name."""

import importlib
import inspect
import pkgutil

import pytest

from irl_jax import losses

MODULES = [
    importlib.import_module(f"irl_jax.losses.{m.name}")
    for m in pkgutil.iter_modules(losses.__path__)
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rsplit(".")[-1])
def test_every_public_function_is_exported(module):
    own = {
        name: value
        for name, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }
    assert own
    for name, value in own.items():
        assert getattr(losses, name, None) is value, name
        assert name in losses.__all__


def test_no_name_is_that_of_a_module():
    assert not set(losses.__all__) & {module.__name__.rsplit(".")[-1] for module in MODULES}
    assert len(set(losses.__all__)) == len(losses.__all__)
