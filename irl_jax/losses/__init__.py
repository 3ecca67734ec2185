"""Objectives: pure functions of arrays over trajectories."""
