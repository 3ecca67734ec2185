"""What every loss must satisfy; the losses are the rows of `cases.CASES`.

Compiling is what the time goes into, so that a loss is compiled three times only:
in float64 without padding, in float32 padded to `PADDED`, and in float32 for a few members.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irl_jax.masking import gather_logp
from irl_jax.types import InputError, Loss
from tests.losses.cases import CASES, Case, draw, pad, single, spoil, unused

SIZES = {"b": 3, "t": 4}
PADDED = {"b": 5, "t": 7}

every_loss = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@functools.cache
def compiled(case: Case):
    """inputs -> (Loss, gradients of its total by every input that may have one), jitted."""

    def both(inputs):
        def total(by):
            loss = case(inputs | by)
            return loss.total, loss

        by = {name: inputs[name] for name in floats(case, inputs)}
        (_, loss), gradient = jax.value_and_grad(total, has_aux=True)(by)
        return loss, gradient

    return jax.jit(both)


def floats(case: Case, inputs) -> list[str]:
    """The names of the floats that a loss reads, but for the labels of its batch."""
    names = [*case.args, *case.keywords, *(n for n in inputs if n.endswith(".logp"))]
    return [name for name in names if inputs[name].dtype.kind == "f"]


def pad_to(case: Case, inputs, sizes):
    """The inputs with empty rows and columns up to these sizes."""
    b, *_, t = inputs["batch.mask"].shape
    return pad(case, inputs, rows=sizes["b"] - b, columns=sizes["t"] - t)


def padded(case: Case, seed: int = 0):
    """Random inputs in float32, padded to `PADDED`."""
    return pad_to(case, single(draw(case, seed)), PADDED)


def assert_close(actual, expected, **tolerance):
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, **tolerance),
        jax.device_get(actual),
        jax.device_get(expected),
    )


def differences(case: Case, inputs, eps: float = 1e-6) -> np.ndarray:
    """The oracle's gradient by the first argument, an element at a time."""
    x = inputs[case.first]
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = eps
        up, down = (
            Loss(*case.expected({**inputs, case.first: x + sign * step})).total for sign in (1, -1)
        )
        gradient[i] = (up - down) / (2 * eps)
    return gradient


@every_loss
@pytest.mark.parametrize("seed", range(3))
def test_equals_oracle(case, seed):
    inputs = draw(case, seed)
    expected = Loss(*case.expected(inputs))
    with jax.enable_x64(True):
        assert_close(compiled(case)(inputs)[0], expected, rtol=1e-12, atol=1e-12)
    assert_close(compiled(case)(padded(case, seed))[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.stops_gradient], ids=lambda case: case.name
)
def test_gradient_equals_differences(case):
    inputs = draw(case)
    with jax.enable_x64(True):
        gradient = compiled(case)(inputs)[1][case.first]
    np.testing.assert_allclose(gradient, differences(case, inputs), rtol=1e-6, atol=1e-8)


@every_loss
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    sizes=st.sampled_from([(1, 1), (2, 4), (3, 2)]),
    fill=st.sampled_from([np.nan, np.inf, -np.inf, 1e30]),
)
def test_padding_and_what_it_holds_change_nothing(case, seed, sizes, fill):
    b, t = sizes
    inputs = draw(case, seed, b=b, t=t)
    with jax.enable_x64(True):
        loss, gradients = compiled(case)(pad_to(case, inputs, SIZES))
    assert_close(loss, Loss(*case.expected(inputs)), rtol=1e-12, atol=1e-12)
    spoiled = spoil(case, pad_to(case, single(inputs), PADDED), fill)
    spoiled_loss, spoiled_gradients = compiled(case)(spoiled)
    assert_close(spoiled_loss, loss, rtol=1e-5, atol=1e-5)
    gradient, spoiled_gradient = (np.asarray(x[case.first]) for x in (gradients, spoiled_gradients))
    inside = tuple(slice(n) for n in gradient.shape)
    np.testing.assert_allclose(spoiled_gradient[inside], gradient, rtol=1e-5, atol=1e-5)
    assert not np.any(spoiled_gradient[unused(case, spoiled, case.first)])


@every_loss
def test_padding_is_masked_before_arithmetic(case):
    """So that a user may look for the source of a NaN with `jax_debug_nans`."""
    inputs = jax.tree.map(jnp.asarray, spoil(case, padded(case), np.nan))
    with jax.debug_nans(True):
        case(inputs)


@every_loss
def test_an_empty_batch_is_zero(case):
    inputs = padded(case)
    inputs["batch.mask"] = np.zeros_like(inputs["batch.mask"])
    if "batch.weight" in inputs:
        inputs["batch.weight"] = np.zeros_like(inputs["batch.weight"])
    loss, gradients = compiled(case)(spoil(case, inputs, np.nan))
    assert_close(loss, jax.tree.map(np.zeros_like, loss))
    assert not np.any(np.asarray(gradients[case.first]))
    assert loss.mean == 0


@every_loss
def test_empty_completions_are_finite(case):
    inputs = padded(case)
    inputs["batch.mask"] = np.zeros_like(inputs["batch.mask"])
    loss, gradients = compiled(case)(inputs)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((loss, gradients, loss.mean)))


@jax.jit
def first_logp(logits):
    """The log-prob of token 0."""
    return gather_logp(logits, jnp.zeros(logits.shape[:-1], int))


@jax.jit
def pull_back(logits, gradient):
    """The gradient by the logits, given that by `first_logp` of them."""
    return jax.vjp(first_logp, logits)[1](gradient)


@every_loss
def test_logits_of_ten_thousand_are_finite(case):
    """Log-probs are those of logits of 1e4, rewards and advantages are of 1e4."""
    for seed in range(3):
        inputs = padded(case, seed)
        rng = np.random.default_rng(seed)
        logits = {}
        for name in inputs:
            if name.endswith("logp"):
                logits[name] = np.float32(1e4 * rng.standard_normal([*inputs[name].shape, 5]))
                inputs[name] = first_logp(logits[name])
            elif name in floats(case, inputs):
                inputs[name] = 1e4 * inputs[name]
        loss, gradients = compiled(case)(inputs)
        gradients |= {name: pull_back(x, gradients[name]) for name, x in logits.items()}
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((loss, gradients, loss.mean)))


@every_loss
def test_jit_equals_eager(case):
    inputs = padded(case, 7)
    assert_close(compiled(case)(inputs)[0], case(inputs), rtol=1e-6, atol=1e-6)


@every_loss
def test_parts_add_up_to_the_whole(case):
    inputs = single(draw(case, 5))
    parts = [
        {k: None if v is None else v[rows] for k, v in inputs.items()}
        for rows in (slice(0, 1), slice(1, None))
    ]
    losses = [compiled(case)(pad_to(case, x, PADDED))[0] for x in (*parts, inputs)]
    added = jax.tree.map(lambda x, y: x + y, *losses[:2])
    assert_close(added, losses[2], rtol=1e-5, atol=1e-6)


@every_loss
def test_vmap_over_members_with_traced_hyper_parameters_equals_oracle(case):
    """Of one row, one token, two completions."""
    inputs = single(draw(case, b=1, k=2, t=1))
    members = inputs[case.first] + np.linspace(-0.5, 0.5, 3, dtype=np.float32).reshape(
        3, *[1] * inputs[case.first].ndim
    )
    traced = {k: v for k, v in case.params.items() if not callable(v)}
    fixed = {k: v for k, v in case.params.items() if callable(v)}
    if "ref_logp" not in inputs:
        traced.pop("beta", None)
        fixed |= {k: v for k, v in case.params.items() if k == "beta"}

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def together(x, params):
        return case({**inputs, case.first: x}, params | fixed)

    apart = [Loss(*case.expected({**inputs, case.first: x})) for x in members]
    expected = jax.tree.map(lambda *x: np.stack(x), *apart)
    assert_close(together(members, traced), expected, rtol=1e-5, atol=1e-5)


@every_loss
def test_only_the_policy_is_differentiated(case):
    """References, behaviour log-probs and advantages are constants."""
    _, gradients = compiled(case)(padded(case))
    constants = [k for k in gradients if k.endswith("logp") or k in case.keywords]
    assert not any(np.any(np.asarray(gradients[k])) for k in constants if k != case.first)


@every_loss
def test_halves_are_widened(case):
    inputs = padded(case)
    halves = {
        k: v.astype(jnp.bfloat16) if v is not None and v.dtype == np.float32 else v
        for k, v in inputs.items()
    }
    widened = {
        k: v.astype(np.float32) if v is not None and v.dtype == jnp.bfloat16 else v
        for k, v in halves.items()
    }
    loss = case(halves)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(loss))
    assert_close(loss, compiled(case)(widened)[0], rtol=1e-6, atol=1e-6)


CHECKED = [
    pytest.param(case, name, id=f"{case.name}-{name}") for case in CASES for name in case.checked
]


@pytest.mark.parametrize(("case", "name"), CHECKED)
def test_a_wrong_rank_is_named(case, name):
    inputs = padded(case)
    for wrong in (inputs[name][..., None], inputs[name][0]):
        with pytest.raises(InputError, match=rf"^{name}: expected shape"):
            case({**inputs, name: wrong})


@pytest.mark.parametrize(("case", "name"), [p for p in CHECKED if p.values[1] != p.values[0].first])
def test_a_wrong_size_is_named(case, name):
    """Above all where it would broadcast: one row where there should be three."""
    inputs = padded(case)
    with pytest.raises(InputError, match=rf"^{name}: expected shape"):
        case({**inputs, name: inputs[name][:1]})


@pytest.mark.parametrize(("case", "name"), CHECKED)
def test_a_wrong_dtype_is_named(case, name):
    inputs = padded(case)
    other = np.int32 if inputs[name].dtype == np.float32 else np.float32
    with pytest.raises(InputError, match=rf"^{name}: expected .*dtype"):
        case({**inputs, name: inputs[name].astype(other)})
