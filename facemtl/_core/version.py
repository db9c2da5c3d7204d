"""The version, in one place that hatchling reads too."""

__version__ = "0.1.0"
