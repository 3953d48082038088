"""Wavelet transform and the block built on it."""
