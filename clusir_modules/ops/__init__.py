"""Functions and checks on tensors, without parameters."""
