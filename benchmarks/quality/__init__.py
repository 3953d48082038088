"""How well networks restore: the shipped weights on known benchmarks, and a training contest against peers."""
