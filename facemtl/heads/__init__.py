"""Heads that turn a feature into logits: margins for identity, age distributions for age."""
