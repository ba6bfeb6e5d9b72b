"""The database: its records, queries and engine. A new column goes here."""

# The import registers the views of records.
from lumigator_nb.database import record_views as record_views
