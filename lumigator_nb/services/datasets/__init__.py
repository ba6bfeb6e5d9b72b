"""Datasets: upload, versions, samples and what is derived from them."""
