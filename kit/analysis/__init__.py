"""Scores, decomposition and progress."""
