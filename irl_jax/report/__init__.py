"""Metrics to tables, plots and one HTML page."""
