import jax
import jax.numpy as jnp
import numpy as np

from irl_jax.losses.demonstration import nll
from irl_jax.masking import gather_logp
from irl_jax.types import Demonstration


def batch_of(mask):
    mask = jnp.asarray(mask)
    ones = jnp.ones(mask.shape, jnp.int32)
    return Demonstration(tokens=ones, mask=mask, segment=ones)


def test_uniform_policy_has_perplexity_of_the_vocabulary():
    batch = batch_of([[False, True, True], [False, False, True]])
    loss = nll(jnp.full([2, 3], -jnp.log(7.0)), batch)
    np.testing.assert_allclose(jnp.exp(loss.mean), 7.0, rtol=1e-6)
    assert loss.weight == 3
    assert [float(x) for x in loss.metrics["tokens"]] == [3, 2]


def test_mean_is_over_tokens_not_over_rows():
    batch = batch_of([[True, True, True], [True, False, False]])
    loss = nll(jnp.array([[-1.0, -1.0, -1.0], [-5.0, 0.0, 0.0]]), batch)
    assert loss.mean == 2.0


def test_gradient_is_softmax_minus_empirical_distribution():
    """At a tabular policy, ∇L = Σₛ n(s)/N (π(·|s) − empirical(·|s))."""
    logits = jnp.array([0.3, -0.2, 1.0, 0.0])
    tokens = jnp.array([[0, 0, 2, 3, 0, 2]])
    batch = batch_of(np.ones([1, 6], bool))
    broadcast = lambda x: jnp.broadcast_to(x, [1, 6, 4])
    gradient = jax.grad(lambda x: nll(gather_logp(broadcast(x), tokens), batch).mean)(logits)
    empirical = jnp.array([3, 0, 2, 1]) / 6
    np.testing.assert_allclose(gradient, jax.nn.softmax(logits) - empirical, atol=1e-6)
