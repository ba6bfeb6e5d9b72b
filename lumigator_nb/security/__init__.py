"""Secrets: where keys lie, how they are encrypted, and how texts are redacted."""
