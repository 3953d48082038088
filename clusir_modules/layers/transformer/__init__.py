"""The wavelet transformer block and its parts."""
