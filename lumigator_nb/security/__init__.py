"""Secrets: storage of the keys, encryption, and redaction of texts."""
