"""What the screens show of datasets."""
