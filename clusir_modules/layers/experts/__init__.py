"""Experts and their mixture."""
