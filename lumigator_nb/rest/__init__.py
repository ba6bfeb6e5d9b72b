"""The REST API: Lumigator's own, and what goes beyond it. Routes translate; the workspace does the work."""
