"""The database: its records, queries and engine. A new column goes here."""
