"""What the screens show before a launch: models, metrics, estimates, checks."""
