"""Losses that take logits or maps and return a scalar."""
