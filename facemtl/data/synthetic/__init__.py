"""Faces that nobody owns: rendered people of known identity, age, pose and light."""
