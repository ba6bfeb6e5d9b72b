"""The REST API: Lumigator's routes and some of our own. Routes only translate requests; the workspace does the work."""
