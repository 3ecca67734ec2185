"""The gold reward: published scores, and what people expect of it."""

import sys

import numpy as np
import pytest

from irl_jax.rewards.vader import vader
from irl_jax.types import InputError


@pytest.fixture(scope="module")
def score():
    pytest.importorskip("vaderSentiment", reason='needs pip install "irl_jax[demo]"')
    return vader()


def test_scores_that_its_authors_print(score):
    texts = ["VADER is smart, handsome, and funny.", "The book was good.", "Today sux"]
    np.testing.assert_allclose(score(texts), [0.8316, 0.4404, -0.3612], atol=5e-5)


def test_order(score):
    order = ["It is horrible.", "It is not good.", "It is a table.", "It is good.", "It is great!"]
    values = score(order)
    assert values.dtype == np.float64 and values.shape == (5,)
    assert (np.diff(values) > 0).all()
    assert values[2] == 0
    assert (np.abs(values) <= 1).all()


def test_degrees(score):
    plain, very, loud, hardly = score(
        ["It is good", "It is very good", "It is good!!!", "It is slightly good"]
    )
    assert hardly < plain < min(very, loud)


def test_nothing_to_judge(score):
    np.testing.assert_array_equal(score([""]), [0.0])
    assert score([]).shape == (0,)


def test_missing_package(monkeypatch):
    for name in ("vaderSentiment", "vaderSentiment.vaderSentiment"):
        monkeypatch.setitem(sys.modules, name, None)
    vader.cache_clear()  # what another test has loaded
    with pytest.raises(InputError, match=r'vaderSentiment: pip install "irl_jax\[demo\]"'):
        vader()
