"""Fuzzing of everything that reads a program: `./dev fuzz [SECONDS]`."""
