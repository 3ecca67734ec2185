"""Completions of several turns: every policy loss reads the policy's tokens, and nothing between.

The masks have holes where the environment wrote; advantages are those of turns.
"""

from dataclasses import replace

import jax
import numpy as np
import pytest

from irl_jax.types import Group, Loss, Turns
from tests.losses.cases import draw, spoil
from tests.losses.cases_policy import POLICY
from tests.losses.test_every_loss import assert_close, compiled, differences

# Of one ratio for a whole sequence: its advantage is one number, too.
OF_SEQUENCES = {"gspo", "luspo", "gmpo", "vespo"}
CASES = [case for case in POLICY if case.batch is Group and "logp" in case.args]
OF_TURNS = [
    case
    if case.name in OF_SEQUENCES
    else replace(case, keywords=case.keywords | {"advantage": "BKT"})
    for case in CASES
]
NUMBER = np.array(
    [
        [[1, 0, 2, 2, 0], [1, 1, 0, 0, 2]],
        [[0, 0, 0, 0, 0], [1, 1, 1, 0, 0]],
        [[1, 0, 0, 2, 3], [0, 1, 0, 2, 0]],
    ]
)


def several_turns(case, seed):
    """Inputs whose completions are turns of `NUMBER`, each turn with an advantage of its own."""
    inputs = draw(case, seed, k=2, t=NUMBER.shape[-1])
    inputs["batch.mask"] = NUMBER > 0
    if inputs["advantage"].ndim == NUMBER.ndim:
        of_turns = np.random.default_rng(seed).standard_normal((3, 2, 4))
        inputs["advantage"] = np.take_along_axis(of_turns, NUMBER, -1)
    return inputs


def test_the_mask_of_turns():
    taken = Turns(NUMBER, np.zeros((3, 2, 3))).mask
    expected = [[[1, 1, 0], [1, 1, 0]], [[0, 0, 0], [1, 0, 0]], [[1, 1, 1], [1, 1, 0]]]
    np.testing.assert_array_equal(taken, np.array(expected) > 0)


@pytest.mark.parametrize("case", OF_TURNS, ids=lambda case: case.name)
def test_a_loss_of_turns_equals_oracle_whatever_the_environment_wrote(case):
    inputs = several_turns(case, 0)
    with jax.enable_x64(True):
        loss, gradients = compiled(case)(inputs)
        spoiled, gradients_spoiled = compiled(case)(spoil(case, inputs, np.nan))
    assert_close(loss, Loss(*case.expected(inputs)), rtol=1e-12, atol=1e-12)
    gradient = gradients["logp"]
    if not case.stops_gradient:
        np.testing.assert_allclose(gradient, differences(case, inputs), rtol=1e-6, atol=1e-8)
    assert not np.any(gradient[NUMBER == 0]) and np.any(gradient[NUMBER == 2])
    assert_close(spoiled, loss, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gradients_spoiled["logp"], gradient, rtol=1e-12)
