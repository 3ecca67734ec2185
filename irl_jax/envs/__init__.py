"""Processes to plan and to act in."""
