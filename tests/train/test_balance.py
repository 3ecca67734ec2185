"""Fine-tuning of a mixture of experts: how evenly they are used is a metric and a term."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.models.decoder import forward_balanced
from irl_jax.models.logprob import sequence_logp_balance
from irl_jax.train.objectives import sft_objective
from irl_jax.types import Demonstration, InputError
from tests.models.cases import CONFIG, MIXED, assert_near, random_params


def batch():
    tokens = np.random.default_rng(0).integers(0, MIXED.vocab_size, (2, 7)).astype(np.int32)
    segment = np.array([[1, 1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 0, 0, 0]], np.int32)
    mask = (segment != 0) & (np.arange(7) > 0)
    return Demonstration(jnp.asarray(tokens), jnp.asarray(mask), jnp.asarray(segment))


def test_balance_is_a_metric_and_a_term():
    params, data, key = random_params(MIXED), batch(), jax.random.key(0)
    run = lambda weight: jax.jit(sft_objective(MIXED, balance=weight))(params, data, key)
    plain, more = run(0.0), run(0.3)
    want = forward_balanced(MIXED, params, data.tokens, segment=data.segment)[2]
    for loss in (plain, more):
        assert_near(loss.metrics["balance"][0] / loss.metrics["balance"][1], want)
    assert_near(plain.mean, plain.metrics["nll"][0] / plain.metrics["nll"][1])
    assert_near(more.mean - plain.mean, 0.3 * want, 1e-4)


def test_a_model_without_experts_has_no_balance():
    loss = jax.eval_shape(
        sft_objective(CONFIG, balance=0.3), random_params(CONFIG), batch(), jax.random.key(0)
    )
    assert "balance" not in loss.metrics
    with pytest.raises(InputError, match="n_experts is 0"):
        sequence_logp_balance(CONFIG, random_params(CONFIG), batch().tokens, batch().segment)
