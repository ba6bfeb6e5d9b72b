"""Prompts: from a task and an example to a request, and from a model's output to a prediction."""
