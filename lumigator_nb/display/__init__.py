"""How things show themselves, in a notebook, a terminal and a report.

Draws from plain values and frames; knows no service. Nothing here loads anything from elsewhere or runs scripts.
"""
