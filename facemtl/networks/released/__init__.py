"""Weights that others released: their state-dict keys mapped onto ours, a file for each network."""
