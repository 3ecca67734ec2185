"""Stale samples."""
