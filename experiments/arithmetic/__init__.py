"""Chain sums, worked out by a small policy: a task of experiments."""
