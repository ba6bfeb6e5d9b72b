"""What the screens show of comparisons."""
