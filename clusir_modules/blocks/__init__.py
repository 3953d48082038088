"""Small shared blocks."""
