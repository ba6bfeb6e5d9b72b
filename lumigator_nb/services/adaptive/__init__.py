"""Pilot runs, power studies and races: how many examples are enough."""
