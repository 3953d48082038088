"""Full networks."""
