"""One file per family of models: how each is loaded and asked."""
