"""What a workspace can do, one module per noun. Each action is one unit of work."""
