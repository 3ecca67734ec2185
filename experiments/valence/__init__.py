"""Answers of a language model whose valence is the gold reward: a task of experiments."""
