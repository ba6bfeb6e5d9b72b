"""Comparisons on screens."""
