"""One training run: its loop, its steps, its files and how it ends."""
