"""Scripts that make the pictures and tables of the documentation; each has ``draw(folder)``."""
