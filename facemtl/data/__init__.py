"""Files to tensors: photographs, landmark lists, manifests, record files, and faces of people who do not exist."""

from facemtl.data.bundled import bundled_faces

__all__ = ["bundled_faces"]
