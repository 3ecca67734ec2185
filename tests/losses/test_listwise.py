import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.direct import dpo
from irl_jax.losses.listwise import lambda_pairs, listwise_alignment, tpo
from irl_jax.losses.ranking import all_pairs
from irl_jax.losses.reference_free import simpo
from irl_jax.losses.scores import mean_log_ratio
from irl_jax.types import Ranking
from tests.losses.test_direct import BATCH, LOGP, MASK, REF

RANKING = Ranking(None, None, MASK, count=jnp.array([2, 2]), weight=jnp.array([1.0, 2.0]))


@pytest.mark.parametrize("loss", ["plackett_luce", all_pairs])
def test_of_two_responses_it_is_dpo(loss):
    chosen = {} if loss == "plackett_luce" else {"loss": loss}
    got = listwise_alignment(LOGP, REF, RANKING, beta=0.7, **chosen)
    expected = dpo(LOGP, REF, BATCH.replace(weight=RANKING.weight), beta=0.7)
    assert got.mean == pytest.approx(float(expected.mean), rel=1e-6)


def test_lambda_weights_by_hand():
    """Rewards 0, 1, 2 of grades 2, 1, 0: places 3, 2, 1."""
    batch = Ranking(None, None, None, count=jnp.array([3]), weight=jnp.ones(1))
    grade = jnp.array([[2.0, 1.0, 0.0]])
    loss = lambda_pairs(jnp.array([[0.0, 1.0, 2.0]]), batch, grade=grade, link=lambda z: 1 + 0 * z)
    d = 1 / np.log(1 + np.array([3, 2, 1]))
    expected = 2 * abs(d[0] - d[1]) + 3 * abs(d[0] - d[2]) + 1 * abs(d[1] - d[2])
    assert loss.mean == pytest.approx(expected, rel=1e-6)
    assert loss.metrics["pair_accuracy"][0] == 0


def test_tied_rewards_have_places_and_so_a_gradient():
    """At the reference all implicit rewards are 0: places are 1, 2, 3, and every slope is half."""
    batch = Ranking(None, None, None, count=jnp.array([3]), weight=jnp.ones(1))
    grade = jnp.array([[2.0, 1.0, 0.0]])
    slope = jax.grad(lambda r: lambda_pairs(r, batch, grade=grade).total)(jnp.zeros([1, 3]))
    d = 1 / np.log([2, 3, 4])
    first, far, second = 2 * (d[0] - d[1]), 3 * (d[0] - d[2]), 1 * (d[1] - d[2])
    expected = [-(first + far) / 2, (first - second) / 2, (far + second) / 2]
    np.testing.assert_allclose(slope[0], expected, rtol=1e-5)


def test_tpo_is_simpo_of_the_others_and_imitates_the_first():
    join = lambda gold, sides: jnp.concatenate([gold[:, None], sides], 1)
    mask = join(jnp.ones([2, 3], bool), MASK)
    batch = Ranking(None, None, mask, count=jnp.array([3, 3]), weight=jnp.ones(2))
    options = {"beta": 2.0, "gamma": 0.3}
    gold = REF[:, 0]
    got = tpo(join(gold, LOGP), batch, alpha=0.5, score=mean_log_ratio, **options)
    expected = simpo(LOGP, BATCH, **options).mean - 0.5 * gold.mean()
    assert got.mean == pytest.approx(float(expected), rel=1e-6)
    two = tpo(join(gold, LOGP), batch.replace(count=jnp.array([2, 2])), alpha=0.5,
              score=mean_log_ratio, **options)  # fmt: skip
    assert two.mean == 0 and two.weight == 0
