"""Modulation in the frequency domain."""
