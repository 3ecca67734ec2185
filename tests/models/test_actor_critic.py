import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from irl_jax.models.actor_critic import act, action_logp, greedy, init_actor_critic, state_value

OBSERVED = np.float32(np.random.default_rng(0).standard_normal([5, 3]))


def network(params, x):
    """ReLU between the layers, in float64."""
    for i in range(len(params)):
        layer = {k: np.asarray(v, np.float64) for k, v in params[f"layer_{i}"].items()}
        x = (x if i == 0 else np.maximum(x, 0)) @ layer["kernel"] + layer["bias"]
    return x


def spread(params):
    """The same parameters, their policy away from where it begins."""
    policy = jax.tree.map(lambda x: x + 0.5 * jnp.cos(jnp.arange(x.size).reshape(x.shape)),
                          params["policy"])  # fmt: skip
    return params | {"policy": policy}


def test_log_probs_are_those_of_a_softmax():
    params = spread(init_actor_critic(jax.random.key(0), (3,), 4, (6,)))
    logits = network(params["policy"], OBSERVED)
    wanted = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    action = np.array([0, 3, 1, 2, 2])
    got = action_logp(params, OBSERVED, action)
    np.testing.assert_allclose(got, wanted[np.arange(5), action], rtol=1e-5)
    np.testing.assert_allclose(
        state_value(params, OBSERVED), network(params["critic"], OBSERVED)[:, 0], rtol=1e-5
    )
    best, logp = greedy(params, OBSERVED, jax.random.key(1))
    np.testing.assert_array_equal(best, wanted.argmax(-1))
    np.testing.assert_allclose(logp, wanted.max(-1), rtol=1e-5)
    many = np.repeat(OBSERVED[:1], 4000, 0)
    drawn, logp = act(params, many, jax.random.key(1))
    share, exact = np.bincount(drawn, minlength=4) / 4000, np.exp(wanted[0])
    assert (np.abs(share - exact) < 4.5 * np.sqrt(exact * (1 - exact) / 4000)).all()
    np.testing.assert_allclose(logp, wanted[0][drawn], rtol=1e-4)


def test_log_densities_are_those_of_normal_distributions():
    params = spread(init_actor_critic(jax.random.key(0), (3,), (2,), (6,)))
    params |= {"log_std": jnp.array([0.5, -1.0])}
    mean, std = network(params["policy"], OBSERVED), np.exp([0.5, -1.0])
    action = np.float32(mean + np.random.default_rng(1).standard_normal([5, 2]))
    wanted = stats.norm.logpdf(action, mean, std).sum(-1)
    np.testing.assert_allclose(action_logp(params, OBSERVED, action), wanted, rtol=1e-4)
    np.testing.assert_allclose(greedy(params, OBSERVED, None)[0], mean, rtol=1e-5, atol=1e-6)
    drawn, logp = act(params, np.repeat(OBSERVED[:1], 4000, 0), jax.random.key(1))
    for i in range(2):
        assert stats.kstest(drawn[:, i], stats.norm(mean[0, i], std[i]).cdf).pvalue > 1e-3
    wanted = stats.norm.logpdf(drawn, mean[0], std).sum(-1)
    np.testing.assert_allclose(logp, wanted, rtol=1e-4, atol=1e-4)


def test_an_index_without_hidden_layers_is_a_row_of_a_table():
    params = spread(init_actor_critic(jax.random.key(0), 3, 4, ()))
    table = params["policy"]["layer_0"]
    state, action = jnp.array([[2, 0], [1, 1]]), jnp.array([[3, 1], [0, 2]])
    logp = jax.nn.log_softmax(table["kernel"] + table["bias"])
    np.testing.assert_allclose(action_logp(params, state, action), logp[state, action], rtol=1e-5)
    value = params["critic"]["layer_0"]["kernel"][:, 0]
    np.testing.assert_allclose(state_value(params, state), value[state], rtol=1e-6)


def test_a_linear_policy_may_have_a_critic_with_layers():
    params = init_actor_critic(jax.random.key(0), (3,), 4, (), (6, 5))
    shapes = {
        name: [layer["kernel"].shape for layer in network.values()]
        for name, network in params.items()
    }
    assert shapes == {"policy": [(3, 4)], "critic": [(3, 6), (6, 5), (5, 1)]}


@pytest.mark.parametrize("action", [4, (2,)])
def test_a_policy_begins_close_to_uniform(action):
    params = init_actor_critic(jax.random.key(0), (3,), action, (64, 64))
    if action == 4:
        logp = action_logp(params, OBSERVED[:4], np.arange(4))
        np.testing.assert_allclose(logp, -np.log(4), atol=0.1)
    else:
        drawn, _ = act(params, np.repeat(OBSERVED[:1], 2000, 0), jax.random.key(1))
        assert np.abs(drawn.mean(0)).max() < 0.15 and np.abs(drawn.std(0) - 1).max() < 0.1
