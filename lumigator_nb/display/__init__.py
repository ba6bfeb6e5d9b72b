"""Building blocks to render values as HTML, text and Markdown, for notebooks, terminals and reports.

The functions take plain values and frames, and depend on no service. The HTML contains no scripts, and loads nothing
from other servers.
"""
