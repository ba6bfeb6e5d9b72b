"""Upkeep of database and store: integrity, orphans, aggregates."""

# Registers how garbage and inspections show themselves.
from lumigator_nb.services.upkeep import views as views
