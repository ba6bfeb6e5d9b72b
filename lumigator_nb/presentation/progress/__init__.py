"""Experiments and workflows on screens."""
