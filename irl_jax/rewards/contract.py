"""How the online loop calls a reward, and all else that it is given.

`reward`, `prepare` and `observe` are called as `f(group, context)`, always with both, by
position: the `Group` and a `LoopContext` (updates done, parameters, a key). What needs the
group alone is wrapped, so that nothing is guessed from a signature:

    reward=of_group(valence_reward)
    prepare=lambda group, context: sampled_pair(group, context.key)

A reward returns f32[B, K], or `Rewarded(value, parts, metrics)`, whose extras are logged and
reach `prepare` and `observe` as `context.parts` and `context.metrics`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax.numpy as jnp
from jax import Array

from irl_jax.masking import check_float, check_shape
from irl_jax.types import Group, InputError, LoopContext, Rewarded

T = TypeVar("T")

CALLED = ("group", "context")


def of_group(function: Callable[[Group], T]) -> Callable[[Group, LoopContext], T]:
    """`(group) -> x` as the loop calls it, `(group, context) -> x`.

    Example:
        >>> of_group(lambda group: group + 1)(1, None)
        2
    """
    check_takes("of_group", function, "group")
    return lambda group, context: function(group)


def check_takes(name: str, function: Callable[..., Any], *arguments: str) -> None:
    """Checks that a function can be called with these arguments, by position.

    Args:
        name: of the function, in the message.
        function: what is to be called; nothing is said of one that Python knows no signature of.
        arguments: names of the arguments, in the message.

    Raises:
        InputError: it takes others.

    Example:
        >>> check_takes("reward", lambda group: group, "group", "context")
        Traceback (most recent call last):
        ...
        irl_jax.types.InputError: reward: is called as reward(group, context), but takes (group):\
 too many positional arguments; wrap it as rewards.contract.of_group(reward)
    """
    if not callable(function):
        raise InputError(f"{name}: expected a function, got a {type(function).__name__}")
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise InputError(
            f"{name}: is called as {name}({', '.join(arguments)}), but takes {signature}: {error}; "
            + _fix(name, signature, arguments)
        ) from None


def _fix(name: str, signature: inspect.Signature, arguments: tuple[str, ...]) -> str:
    """What to do with a function of another signature."""
    if arguments == CALLED:
        try:
            signature.bind("group")
        except TypeError:
            return "give its other arguments in a function of these two"
        return f"wrap it as rewards.contract.of_group({name})"
    return "give its other arguments in a function of these alone"


def ask(
    reward: Callable[[Group, LoopContext], Any], group: Group, context: LoopContext,
    name: str = "reward",
) -> Rewarded:  # fmt: skip
    """What a reward says of a group, checked.

    Args:
        reward: as the loop is given it.
        group: of B prompts with K completions each.
        context: of the loop.
        name: of the reward, in messages.

    Returns:
        Value and parts as f32[B, K].

    Raises:
        InputError: the value or a part is no array, has another shape or no floating dtype;
            or a metric is no scalar.
    """
    said = reward(group, context)
    value, parts, metrics = said if isinstance(said, Rewarded) else Rewarded(said)
    shape = group.mask.shape[:2]
    for kind, extras in (("parts", parts), ("metrics", metrics)):
        if not isinstance(extras, Mapping):
            raise InputError(f"{name}: its {kind} are a {type(extras).__name__}, not a dict")
    for metric, number in metrics.items():
        if jnp.shape(number) != ():
            raise InputError(
                f"{name}: metric {metric!r} has shape {list(jnp.shape(number))}, is no scalar; "
                "make it a part, or its mean"
            )
    each = {part: _as_f32(f"{name} {part!r}", x, shape) for part, x in parts.items()}
    if isinstance(value, tuple):
        raise InputError(
            f"{name}: expected an array, got a tuple; return Rewarded(value, parts, metrics)"
        )
    return Rewarded(_as_f32(name, value, shape), each, metrics)


def _as_f32(name: str, x: Any, shape: tuple[int, ...]) -> Array:
    """The array x, checked, as f32[B, K]."""
    check_shape(name, x, shape)
    check_float(name, x)
    return jnp.asarray(x, jnp.float32)
