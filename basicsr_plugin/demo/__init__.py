"""A complete small training run on photographs that come with scikit-image and matplotlib: ``make demo``."""
