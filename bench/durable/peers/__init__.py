"""One script for each engine that the same job is measured on; each runs in an environment of its own."""
