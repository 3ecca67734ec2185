"""Mixtures of experts: how evenly they are used, LoRA, gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.models.decoder import forward_balanced
from irl_jax.models.lora import attach, init_lora, merge
from irl_jax.models.mlp import Experts
from tests.models.cases import CONFIG, MIXED, assert_near, assert_trees_near, random_params, run
from tests.oracles import decoder as oracle

balanced = jax.jit(forward_balanced, static_argnums=0)


@pytest.fixture(scope="module")
def params():
    return random_params(MIXED)


def rows(seed=0):
    """Tokens, and a mask with padding on either side."""
    tokens = np.random.default_rng(seed).integers(0, MIXED.vocab_size, (3, 9)).astype(np.int32)
    columns = np.arange(9)
    return tokens, np.stack([columns >= 4, columns < 6, columns < 9])


def test_balance_is_the_oracle_and_counts_no_padding(params):
    tokens, mask = rows()
    hidden, _, balance = balanced(MIXED, params, tokens, mask=mask)
    sequences = [row[own] for row, own in zip(tokens, mask, strict=True)]
    assert_near(balance, oracle.load_balance(MIXED, params, sequences))
    np.testing.assert_array_equal(hidden, run(MIXED, params, tokens, mask=mask)[0])
    other = np.where(mask, tokens, (tokens + 1) % MIXED.vocab_size)
    assert_near(balanced(MIXED, params, other, mask=mask)[2], balance)


def test_balance_without_experts_is_none():
    tokens, mask = rows()
    assert forward_balanced(CONFIG, random_params(CONFIG), tokens, mask=mask)[2] is None


def test_balance_is_least_where_all_are_used_alike(params):
    """k where every expert has the same probability; E where one has all."""
    tokens, mask = rows()
    config = dataclasses.replace(MIXED, experts_per_token=1)
    router = params["layers"]["mlp"]["router"]["kernel"]
    with_router = lambda kernel: {
        **params,
        "layers": {
            **params["layers"],
            "mlp": {**params["layers"]["mlp"], "router": {"kernel": kernel}},
        },
    }
    even = balanced(config, with_router(jnp.zeros_like(router)), tokens, mask=mask)[2]
    assert_near(even, 1.0)
    everyone = balanced(MIXED, with_router(jnp.zeros_like(router)), tokens, mask=mask)[2]
    assert_near(everyone, 2.0)
    # the hidden state times a kernel of one column is the sign of one number: a first or a last
    steep = jnp.zeros_like(router).at[:, :, 0].set(1e3).at[:, :, 1].set(-1e3)
    assert balanced(config, with_router(steep), tokens, mask=mask)[2] > 2.0


def test_the_gradient_of_the_balance_reaches_the_router(params):
    """By differences: how often an expert is chosen is constant, its probability is not."""
    tokens, mask = rows()
    value = lambda p: forward_balanced(MIXED, p, tokens, mask=mask)[2]
    gradient = jax.jit(jax.grad(value))(params)["layers"]["mlp"]["router"]["kernel"]
    direction = np.asarray(gradient) / np.linalg.norm(gradient)

    def moved(step):
        layers = params["layers"]
        router = {"kernel": layers["mlp"]["router"]["kernel"] + step * direction}
        moved = {**params, "layers": {**layers, "mlp": {**layers["mlp"], "router": router}}}
        return float(balanced(MIXED, moved, tokens, mask=mask)[2])

    difference = (moved(1e-3) - moved(-1e-3)) / 2e-3
    assert_near(difference, np.linalg.norm(gradient), 1e-2)


def test_lora_beside_the_experts_is_lora_merged(params):
    tokens, _ = rows()
    lora = init_lora(jax.random.key(0), params, 2, "mlp")
    assert set(lora["layers"]["mlp"]) == {"router", "experts"}
    lora = jax.tree.map(lambda x: x + 0.2 * jnp.cos(jnp.arange(x.size).reshape(x.shape)), lora)
    merged = merge(params, lora, 0.5)
    hidden, _ = run(MIXED, attach(params, lora, 0.5), tokens)
    want = oracle.hidden(MIXED, merged, tokens[0])
    assert_near(hidden[0], want)
    assert np.abs(want - oracle.hidden(MIXED, params, tokens[0])).max() > 0.1


def test_gradients_are_those_of_every_expert_on_every_token(params):
    """Without sorting and groups: the weights of those that are not chosen are 0."""
    layer = jax.tree.map(lambda leaf: leaf[0], params["layers"]["mlp"])
    x = jax.random.normal(jax.random.key(0), (2, 3, MIXED.d_model))

    def dense(p, x):
        prob = jax.nn.softmax(x @ p["router"]["kernel"])
        kth = jnp.sort(prob, axis=-1)[..., -MIXED.experts_per_token, None]
        weight = jnp.where(prob >= kth, prob, 0.0)
        own = p["experts"]
        gate = jnp.einsum("...d,edf->...ef", x, own["gate"]["kernel"])
        up = jnp.einsum("...d,edf->...ef", x, own["up"]["kernel"])
        inner = jax.nn.silu(gate) * up * weight[..., None]
        return jnp.einsum("...ef,efd->...d", inner, own["down"]["kernel"])

    grouped = lambda p, x: Experts(MIXED).apply({"params": p}, x)
    gradient = lambda f: jax.jit(jax.grad(lambda *a: jnp.sin(f(*a)).sum(), (0, 1)))(layer, x)
    assert_trees_near(gradient(grouped), gradient(dense), 1e-5)


def test_members_of_an_ensemble_are_each_alone(params):
    """`vmap` over LoRAs of the experts, and its gradient."""
    tokens, _ = rows()
    lora = init_lora(jax.random.key(0), params, 1, "mlp")
    wave = lambda x, i: 0.1 * jnp.cos(i + jnp.arange(x.size)).reshape(x.shape)
    members = [jax.tree.map(lambda x, i=i: x + wave(x, i), lora) for i in range(2)]
    loss = lambda m: jnp.sin(run(MIXED, attach(params, m, 1.0), tokens)[0]).sum()
    gradient = jax.value_and_grad(loss)
    together = jax.jit(jax.vmap(gradient))(jax.tree.map(lambda *x: jnp.stack(x), *members))
    one = jax.jit(gradient)
    for i, member in enumerate(members):
        assert_trees_near(jax.tree.map(lambda x, i=i: x[i], together), one(member), 1e-4)
