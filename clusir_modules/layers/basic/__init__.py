"""Norms, initial values, changes of resolution."""
