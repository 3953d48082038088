"""Degradation prompts."""
