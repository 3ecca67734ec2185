"""State, step, sharding, loops, checkpoints."""
