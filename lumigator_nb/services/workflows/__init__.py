"""Workflows: launch, admission, status, provenance and single jobs."""
