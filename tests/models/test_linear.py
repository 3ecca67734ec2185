import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.models.linear import matmul


@pytest.mark.parametrize("shape", [(3, 5), (5, 3)], ids=["widens", "narrows"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_value_and_gradients_are_those_of_the_product(shape, dtype):
    x_key, w_key, g_key = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(x_key, (2, 4, shape[0]), dtype)
    w = jax.random.normal(w_key, shape, dtype)
    g = jax.random.normal(g_key, (2, 4, shape[1]), dtype)
    y, pullback = jax.vjp(matmul, x, w)
    expected, plain = jax.vjp(jnp.matmul, x, w)
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 0.02, "atol": 0.05}
    np.testing.assert_array_equal(np.asarray(y, np.float32), np.asarray(expected, np.float32))
    for actual, wanted in zip(pullback(g), plain(g), strict=True):
        assert actual.dtype == wanted.dtype
        as_f32 = lambda a: np.asarray(a, np.float32)
        np.testing.assert_allclose(as_f32(actual), as_f32(wanted), **tolerance)


def test_the_wider_operand_is_never_transposed():
    """The left operand of the gradient of w, which is transposed first, is the narrower."""
    for d, f in ((3, 5), (5, 3)):
        x, w = jnp.ones((4, d)), jnp.ones((d, f))
        gradient = jax.make_jaxpr(jax.grad(lambda w, x=x: matmul(x, w).sum()))(w)
        dots = [e for e in gradient.eqns if e.primitive.name == "dot_general"]
        over_rows = [e for e in dots if e.params["dimension_numbers"][0] == ((0,), (0,))]
        assert [e.invars[0].aval.shape for e in over_rows] == [(4, 3)]
