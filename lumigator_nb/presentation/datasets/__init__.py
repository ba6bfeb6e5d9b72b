"""Datasets on screens: lists, pages, and the upload form."""
