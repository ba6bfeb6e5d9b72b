"""The launch form on screens: models, metrics, estimates, and checks."""
