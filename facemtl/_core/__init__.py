"""Shape legend, checks and version: what every other room may use."""
