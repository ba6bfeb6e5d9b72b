"""Upkeep of database and store: garbage collection and integrity checks."""

# Registers the views of garbage and inspections.
from lumigator_nb.services.upkeep import views as views
