"""SmolLM3: Llama with layers that rotate nothing (NoPE).

Reference: Bakouch et al. 2025, "SmolLM3: smol, multilingual, long-context reasoner",
https://huggingface.co/blog/smollm3; Yang et al. 2025, "Rope to Nope and Back Again", arXiv
2501.18795.
"""

from __future__ import annotations

from typing import Any

from irl_jax.models.decoder_config import DecoderConfig
from irl_jax.models.families.family import COMMON, ONLY, Family
from irl_jax.models.families.fields import Fields
from irl_jax.models.families.llama import NAMES, read_biases, write_biases
from irl_jax.models.families.windows import FULL, SLIDING, read_windows, sliding_layers, widest


def rotated(fields: Fields) -> list[bool]:
    """Which layers rotate queries and keys.

    Raises:
        InputError: if `no_rope_layers` is not a 0 or 1 for each layer.
    """
    n_layers, stated = fields.count("num_hidden_layers"), fields["no_rope_layers"]
    if stated is None:
        period = fields.count("no_rope_layer_interval")
        return [(layer + 1) % period != 0 for layer in range(n_layers)]
    if not isinstance(stated, list) or len(stated) < n_layers or not set(stated) <= {0, 1}:
        raise fields.error(f"no_rope_layers: expected 0 or 1 for each of {n_layers} layers")
    return [bool(given) for given in stated[:n_layers]]


def switches(fields: Fields, max_positions: int) -> dict[str, Any]:
    """The layers without rotation, and windows, which published models do not have."""
    rope = rotated(fields)
    windowed = fields.flag("use_sliding_window") and fields["sliding_window"] is not None
    slides = sliding_layers(fields, lambda layer: windowed and not rope[layer])
    if any(slides) and not windowed:
        raise fields.error(f"layer_types: {SLIDING} needs use_sliding_window and sliding_window")
    return {
        "family": "smollm3",
        "ropes": tuple("global" if turned else "none" for turned in rope),
        **read_biases(fields),
        **read_windows(fields, slides, max_positions),
    }


def write(config: DecoderConfig) -> dict[str, Any]:
    """The fields of `switches`."""
    windows = config.windows or [None] * config.n_layers
    ropes = config.ropes or ["global"] * config.n_layers
    return write_biases(config) | {
        "layer_types": [FULL if window is None else SLIDING for window in windows],
        "no_rope_layers": [int(rope != "none") for rope in ropes],
        "sliding_window": widest(config),
        "use_sliding_window": widest(config) is not None,
    }


FAMILY = Family(
    architecture="SmolLM3ForCausalLM",
    defaults=COMMON
    | {
        "attention_bias": False,
        "layer_types": None,
        "mlp_bias": False,
        "no_rope_layer_interval": 4,
        "no_rope_layers": None,
        "num_key_value_heads": 4,
        "rope_theta": 2_000_000.0,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
    },
    only=ONLY,
    names=NAMES,
    switches=switches,
    fields=write,
)
