"""The deterministic simulator: real engines and the real kernel in a world made of one number. See `__main__`."""
