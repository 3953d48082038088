"""What a routing says, for people: as text, as a figure, as numbers for TensorBoard."""
