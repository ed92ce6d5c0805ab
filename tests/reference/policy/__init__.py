"""A naive evaluator of policies, and the campaign that compares the engine's decisions with it."""
