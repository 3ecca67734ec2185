import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from irl_jax import masking
from irl_jax.types import InputError

# Few shapes, many values: an eager operation compiles once a shape.
SHAPES = st.sampled_from([(1, 1), (2, 3), (3, 5)])


def quick(test):
    return settings(max_examples=30, deadline=None, derandomize=True)(test)


@st.composite
def masked_arrays(draw):
    """f32 and bool of one shape; what is masked out may be NaN or inf."""
    shape = draw(SHAPES)
    x = draw(npst.arrays(np.float32, shape, elements=st.floats(-100, 100, width=32)))
    mask = draw(npst.arrays(bool, shape))
    garbage = draw(npst.arrays(np.float32, shape, elements=st.floats(width=32)))
    return np.where(mask, x, garbage), mask


@quick
@given(masked_arrays(), st.sampled_from([None, 0, -1, (0, 1)]))
def test_masked_sum_and_mean(arrays, axis):
    x, mask = arrays
    expected = np.ma.masked_array(x.astype(np.float64), ~mask)
    total = np.ma.filled(expected.sum(axis), 0.0)
    mean = np.ma.filled(expected.mean(axis), 0.0)
    np.testing.assert_allclose(masking.masked_sum(x, mask, axis), total, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(masking.masked_mean(x, mask, axis), mean, rtol=1e-5, atol=1e-3)


@quick
@given(masked_arrays())
def test_masked_mean_has_the_gradient_of_a_mean(arrays):
    x, mask = arrays
    gradient = jax.grad(lambda x: masking.masked_mean(x, mask))(x)
    np.testing.assert_allclose(gradient, mask / max(mask.sum(), 1), rtol=1e-6)


@quick
@given(npst.arrays(bool, SHAPES))
def test_last_index(mask):
    expected = [max(np.flatnonzero(row), default=-1) for row in mask]
    np.testing.assert_array_equal(masking.last_index(mask), expected)


@quick
@given(
    npst.arrays(np.float32, (2, 3, 5), elements=st.floats(-1e4, 1e4, width=32)),
    npst.arrays(np.int32, (2, 3), elements=st.integers(0, 4)),
)
def test_gather_logp(logits, tokens):
    wide = logits.astype(np.float64)
    expected = wide - np.logaddexp.reduce(wide, axis=-1, keepdims=True)
    expected = np.take_along_axis(expected, tokens[..., None], -1)[..., 0]
    np.testing.assert_allclose(masking.gather_logp(logits, tokens), expected, rtol=1e-5, atol=5e-3)


def test_gather_logp_is_in_single_precision_and_finite():
    logits = jnp.array([[1e4, -1e4, 0.0]], jnp.bfloat16)
    token = jnp.array([1])
    assert masking.gather_logp(logits, token).dtype == jnp.float32
    gradient = jax.grad(lambda x: masking.gather_logp(x, token)[0])(logits.astype(jnp.float32))
    np.testing.assert_allclose(gradient, [[-1, 1, 0]], atol=1e-6)


@quick
@given(st.lists(st.integers(1, 4), max_size=4))
def test_segment_positions(lengths):
    segment = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    segment = np.pad(segment, (0, 17 - len(segment)))[None]
    positions = np.asarray(masking.segment_positions(segment))[0]
    expected = [i for n in lengths for i in range(n)]
    np.testing.assert_array_equal(positions[: len(expected)], expected)


def test_segment_positions_of_rows_are_independent():
    segment = np.array([[1, 1, 2, 0], [1, 2, 2, 2]])
    expected = [[0, 1, 0, 0], [0, 0, 1, 2]]
    np.testing.assert_array_equal(masking.segment_positions(segment), expected)


@pytest.mark.parametrize("shape", [(2, 3), (None, 3), (2, None), (None, None)])
def test_check_shape_accepts(shape):
    masking.check_shape("x", np.zeros([2, 3]), shape)


@pytest.mark.parametrize("shape", [(), (2,), (3, 2), (None,), (None, 3, None), (1, 3), (2, 1)])
def test_check_shape_refuses(shape):
    with pytest.raises(InputError, match=r"^x: expected shape \[.*\], got \[2, 3\]$"):
        masking.check_shape("x", np.zeros([2, 3]), shape)


def test_check_mask():
    masking.check_mask("m", np.ones([2], bool), (2,))
    with pytest.raises(InputError, match=r"^m: expected dtype bool, got float32$"):
        masking.check_mask("m", np.ones([2], np.float32), (2,))
    with pytest.raises(InputError, match=r"^m: expected shape \[3\], got \[2\]$"):
        masking.check_mask("m", np.ones([2], bool), (3,))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_as_float_widens(dtype, request):
    if dtype == "float16":
        request.getfixturevalue("float16")
    x = masking.as_float("x", jnp.ones([2], dtype), (2,))
    assert isinstance(x, jax.Array) and x.dtype == jnp.float32


def test_as_float_keeps_double():
    with jax.enable_x64(True):
        assert masking.as_float("x", np.ones([2]), (None,)).dtype == jnp.float64


@pytest.mark.parametrize("dtype", [np.int32, bool, np.complex64])
def test_as_float_refuses_other_dtypes(dtype):
    with pytest.raises(InputError, match=rf"^x: expected a floating dtype, got {np.dtype(dtype)}$"):
        masking.as_float("x", np.ones([2], dtype), (2,))


def test_check_range():
    masking.check_range("x", 0, 0.0)
    masking.check_range("x", 1, 0.0, 1.0)
    masking.check_range("x", np.float32(0.5), 0.0, 1.0, exclusive=True)
    for bad in (-1, 2, float("nan"), "0.5", None, [0.5]):
        with pytest.raises(InputError, match=r"^x: expected a number in \[0.0, 1.0\], got"):
            masking.check_range("x", bad, 0.0, 1.0)
    with pytest.raises(InputError, match=r"^x: expected a number in \(0.0, inf\], got 0$"):
        masking.check_range("x", 0, 0.0, exclusive=True)


def test_check_range_lets_sweeps_pass():
    swept = jax.vmap(lambda x: (masking.check_range("x", x, 0.0), x * 2)[1])(jnp.array([-1.0, 1.0]))
    assert swept.tolist() == [-2.0, 2.0]
