"""The wire format: schemas, translation from and to our values, documents, and the documentation page."""
