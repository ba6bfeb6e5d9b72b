"""The version, which modules of every layer may read."""

__version__ = "0.1.0"
