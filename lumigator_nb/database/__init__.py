"""The database: its records, queries and engine. A new column goes here."""

# Registers how records show themselves.
from lumigator_nb.database import record_views as record_views
