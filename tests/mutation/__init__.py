"""Mutation testing of the kernel."""
