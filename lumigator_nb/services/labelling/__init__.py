"""People's labels: plans, sessions and what they say of judges."""
