"""Parameters to trajectories."""
