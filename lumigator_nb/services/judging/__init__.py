"""Pairwise judgements and the bias of judges."""
