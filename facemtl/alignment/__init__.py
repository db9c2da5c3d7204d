"""Photographs to aligned face crops and back: templates, similarity, warp, paste-back, detection."""
