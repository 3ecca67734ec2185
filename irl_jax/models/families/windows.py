"""Sliding windows as config.json states them."""

from __future__ import annotations

from irl_jax.models.families.family import Fields


def check_window(fields: Fields, max_positions: int) -> None:
    """Raises `InputError` if the sliding window hides tokens within the context."""
    window = fields["sliding_window"]
    if window is not None and fields.positive("sliding_window", int) < max_positions:
        raise fields.error(
            f"sliding_window = {window} is not supported; lower max_position_embeddings "
            f"({max_positions}) to it if longer sequences are not needed"
        )
