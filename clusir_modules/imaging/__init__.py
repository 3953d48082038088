"""Picture files: reading, decoding, writing with all that belongs to the picture."""
