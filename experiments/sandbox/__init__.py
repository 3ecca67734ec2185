"""A small world in which gold is known: the task of four experiments, see `sandbox.task`."""
