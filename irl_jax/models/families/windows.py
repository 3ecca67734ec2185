"""Sliding windows as config.json states them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from irl_jax.models.decoder_config import DecoderConfig
from irl_jax.models.families.fields import Fields

FULL, SLIDING = "full_attention", "sliding_attention"

QWEN: dict[str, Any] = {
    "layer_types": None,
    "max_window_layers": 28,
    "sliding_window": 4096,
    "use_sliding_window": False,
}
"""Fields in which the Qwen families state their windows -> their values where absent."""


def sliding_layers(fields: Fields, slides: Callable[[int], bool]) -> list[bool]:
    """Which layers have a sliding window: those that `layer_types` says.

    Args:
        fields: of config.json.
        slides: says it of a layer, counted from 0, where `layer_types` is null.

    Raises:
        InputError: if `layer_types` is not one of the two kinds for each layer.
    """
    n_layers = fields.count("num_hidden_layers")
    stated = fields["layer_types"]
    if stated is None:
        return [slides(layer) for layer in range(n_layers)]
    if not isinstance(stated, list) or len(stated) != n_layers:
        raise fields.error(f"layer_types: expected a list of {n_layers}, one for each layer")
    for kind in stated:
        if kind not in (FULL, SLIDING):
            raise fields.error(
                f"layer_types: {json.dumps(kind)} is not supported; only {FULL}, {SLIDING}"
            )
    return [kind == SLIDING for kind in stated]


def read_windows(fields: Fields, slides: list[bool], max_positions: int) -> dict[str, Any]:
    """The argument `windows` of `DecoderConfig`; nothing if no window cuts the context.

    Args:
        fields: of config.json.
        slides: for each layer, whether it has the window.
        max_positions: context length in tokens.

    Raises:
        InputError: if a layer has a window and `sliding_window` is no number of tokens.
    """
    if not any(slides):
        return {}
    window = fields.count("sliding_window")
    if window >= max_positions:
        return {}
    return {"windows": tuple(window if slide else None for slide in slides)}


def read_qwen_windows(fields: Fields, max_positions: int) -> dict[str, Any]:
    """`read_windows` as the Qwen families state them: only with `use_sliding_window`.

    Args:
        fields: of config.json.
        max_positions: context length in tokens.
    """
    if not fields["use_sliding_window"] or fields["sliding_window"] is None:
        return {}
    first = fields["max_window_layers"]
    if fields["layer_types"] is None and (not isinstance(first, int) or first < 0):
        raise fields.error(f"max_window_layers: expected a number, found {json.dumps(first)}")
    return read_windows(fields, sliding_layers(fields, lambda i: i >= first), max_positions)


def widest(config: DecoderConfig) -> int | None:
    """The window of the layers that have one; of several the widest."""
    return max((window for window in config.windows if window is not None), default=None)


def write_qwen_windows(config: DecoderConfig) -> dict[str, Any]:
    """The fields of `QWEN`."""
    window = widest(config)
    if window is None:
        return {"use_sliding_window": False}
    slides = [w is not None for w in config.windows]
    return {
        "layer_types": [SLIDING if slide else FULL for slide in slides],
        "max_window_layers": slides.index(True),
        "sliding_window": window,
        "use_sliding_window": True,
    }
