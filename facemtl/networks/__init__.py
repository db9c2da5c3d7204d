"""Whole networks: encoders, generator, discriminator and the MTLFace assembly."""
