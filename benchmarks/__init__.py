"""Speed, memory and growth of cost beside peers: ``make bench``."""
