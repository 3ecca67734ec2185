"""Sums and countdown, worked out by a small policy: a task of experiments."""
