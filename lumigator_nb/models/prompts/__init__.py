"""From a task and an example to what a model is sent, and from its output to a prediction."""
