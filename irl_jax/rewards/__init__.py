"""Rewards: learned, ensemble, lexicon."""
