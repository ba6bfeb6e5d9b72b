"""Secrets, tokens, login attempts and idempotency keys."""
