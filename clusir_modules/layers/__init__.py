"""What networks are built from, one folder for each idea."""
