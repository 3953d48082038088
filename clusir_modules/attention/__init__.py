"""Attention over channels and pixels."""
