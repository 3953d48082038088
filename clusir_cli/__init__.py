"""The ``clusir`` command: restore, inspect and degrade pictures, look into checkpoints and export them."""
