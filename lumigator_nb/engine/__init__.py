"""What happens on the cluster: inference and evaluation, step by step."""
