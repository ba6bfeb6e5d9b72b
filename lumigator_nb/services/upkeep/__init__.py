"""Upkeep of database and store: integrity, orphans, aggregates."""
