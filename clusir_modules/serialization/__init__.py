"""Files: atomic writing, reading of weights, a network as a folder, a file, a configuration."""
