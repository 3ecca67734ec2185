import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from irl_jax.models.decoder import DecoderConfig, init_params
from irl_jax.models.heads import init_scalar_head
from irl_jax.models.lora import attach, init_lora
from irl_jax.models.mesh import make_mesh
from irl_jax.models.sharding import REPLICATED, RULES, constrain, stacked
from irl_jax.train.shard import shardings
from irl_jax.types import InputError
from tests.models.cases import MIXED, SWITCHED, assert_near, random_params, run

CONFIG = DecoderConfig(
    vocab_size=32,
    d_model=16,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    head_dim=4,
    d_ff=24,
    max_positions=16,
    tie_embeddings=False,
    attention_bias=True,
)


def specs(tree, rules=RULES, sizes=(2, 2, 2)):
    return jax.tree.map(lambda s: s.spec, shardings(make_mesh(*sizes), tree, rules))


@pytest.fixture(scope="module")
def params():
    return jax.eval_shape(lambda: init_params(CONFIG, jax.random.key(0)))


def test_rules_cover_the_decoder_its_lora_and_a_head(params):
    lora = init_lora(jax.random.key(0), params, 2, targets="kernel")
    attached = jax.eval_shape(lambda lora: attach(params, lora, 2.0), lora)
    head = init_scalar_head(jax.random.key(0), 16)
    layers = specs({**attached, "head": head})
    layers, head_spec = layers["layers"], layers["head"]
    assert head_spec == {"kernel": P(), "bias": P()}
    down = layers["mlp"]["down"]
    assert down["kernel"] == P(None, "tensor", "fsdp")
    assert layers["attn"]["q"]["bias"] == P(None, "tensor")
    # x·A·B is cut as x·W is: A like the rows of W, B like its columns
    for name in ("attn", "mlp"):
        for part in layers[name].values():
            kernel = tuple(part["kernel"])
            assert tuple(part["lora_a"])[1] == kernel[1]
            assert tuple(part["lora_b"])[2] == kernel[2] if len(part["lora_b"]) > 2 else True
    alone = specs(lora)["layers"]
    assert alone["mlp"]["down"]["a"] == down["lora_a"]
    assert alone["mlp"]["down"]["b"] == down["lora_b"]
    assert alone["attn"]["q"]["b"] == layers["attn"]["q"]["lora_b"]


def test_rules_cover_every_switch_and_the_experts():
    for config in (SWITCHED, MIXED):
        params = jax.eval_shape(lambda config=config: init_params(config, jax.random.key(0)))
        lora = init_lora(jax.random.key(0), params, 1, targets="kernel")
        found = specs(jax.eval_shape(lambda p, a: attach(p, a, 2.0), params, lora), sizes=(8, 1, 1))
        specs(lora, sizes=(8, 1, 1))
    experts = found["layers"]["mlp"]["experts"]
    for name, part in experts.items():
        kernel = tuple(part["kernel"])
        assert kernel[:2] == (None, None) and {"fsdp", "tensor"} == set(kernel[2:]), name
        assert tuple(part["lora_a"])[2] == kernel[2]
        assert tuple(part["lora_b"])[3] == kernel[3]
    assert found["layers"]["mlp"]["router"]["kernel"] == P(None, "fsdp")


def test_a_mixture_of_experts_on_a_mesh_is_itself():
    config = dataclasses.replace(MIXED, n_heads=4, d_model=16, d_ff=8, vocab_size=20, head_dim=4)
    params, tokens = random_params(config), np.arange(32).reshape(4, 8) % 20
    alone = run(config, params, tokens)[0]
    mesh = make_mesh(2, 2, 2)
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, shardings(mesh, params, RULES))
        assert_near(run(config, placed, tokens)[0], alone)


def test_members_of_an_ensemble_are_cut_as_one_of_them_is(params):
    member = {
        "decoder": init_lora(jax.random.key(0), params, 2, targets="kernel"),
        "head": init_scalar_head(jax.random.key(0), 16),
    }
    members = jax.tree.map(lambda x: jnp.stack([x] * 3), member)
    expected = jax.tree.map(lambda spec: P(None, *spec), specs(member))
    rules = stacked(RULES, *member) + RULES
    assert specs(members, rules) == expected
    assert specs(params, rules) == specs(params)  # what stands beside them keeps its rules


def test_every_matrix_is_cut_by_fsdp_and_tensor(params):
    for path, spec in jax.tree_util.tree_leaves_with_path(
        specs(params), is_leaf=lambda x: isinstance(x, P)
    ):
        name = jax.tree_util.keystr(path)
        if "kernel" in name or "embedding" in name:
            assert {"fsdp", "tensor"} <= set(spec), name
        if "layers" in name and spec:
            assert spec[0] is None, name  # the scanned axis


def test_a_parameter_without_a_rule_or_that_does_not_divide_is_named(params):
    with pytest.raises(InputError, match=r"no rule matches the parameter 'surprise/w'"):
        specs({"surprise": {"w": jnp.zeros(3)}})
    assert specs({"surprise": {"w": jnp.zeros(3)}}, RULES + REPLICATED)["surprise"]["w"] == P()
    odd = {"embed": {"embedding": jnp.zeros((31, 16))}}
    with pytest.raises(InputError, match=r"'embed/embedding': dimension 0 of size 31 .* tensor=2"):
        specs(odd)
    assert specs(odd, sizes=(4, 2, 1))["embed"]["embedding"] == P("tensor", "fsdp")
    with pytest.raises(InputError, match="too small"):
        specs({"mlp": {"down": {"kernel": jnp.zeros((16, 24))}}})


def test_constrain_lays_out_activations_only_on_a_mesh():
    x = jnp.arange(48.0).reshape(8, 3, 2)
    f = lambda x: constrain(x * 2, P(("data", "fsdp"), None, "tensor"))
    alone = jax.jit(f)(x)
    assert len(alone.devices()) == 1
    with jax.set_mesh(make_mesh(2, 2, 2)):
        cut, last = jax.jit(f)(x), jax.jit(f)(x[:3])
        np.testing.assert_array_equal(f(x[:3]), 2 * x[:3])  # not traced: JAX takes no uneven parts
        whole = jax.jit(lambda x: constrain(x, P("sequence")))(x)
    assert cut.sharding.shard_shape(cut.shape) == (2, 3, 1)
    assert last.sharding.shard_shape(last.shape) == (3, 3, 1)  # 3 rows do not divide by 4
    assert whole.sharding.shard_shape(whole.shape) == x.shape
    for y in (alone, cut):
        np.testing.assert_array_equal(y, 2 * x)
