"""What the screens show of experiments and workflows under way."""
