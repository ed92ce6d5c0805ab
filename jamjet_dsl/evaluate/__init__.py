"""Without a run: an expression with the data it is given, and a policy over calls that were recorded elsewhere."""
