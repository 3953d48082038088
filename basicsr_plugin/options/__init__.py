"""Option files: reading them, and the check of every value; imports no model."""
