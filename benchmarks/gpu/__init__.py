"""Correctness and speed on a GPU: ``make test-gpu``."""
