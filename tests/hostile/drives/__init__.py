"""Attacks that take more than one call from inside, or that come from outside."""
