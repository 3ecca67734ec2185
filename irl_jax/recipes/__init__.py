"""The ways the pieces are put together, once each."""
