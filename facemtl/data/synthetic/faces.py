"""A data set of people who do not exist, of any size, made as it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from facemtl.alignment.templates import FaceTemplate
from facemtl.data.random_words import LARGEST_SEED
from facemtl.data.samples import FaceBatch, FaceSample
from facemtl.data.synthetic.random_numbers import Purpose, draw_uniform
from facemtl.data.synthetic.renderer import FaceRenderer, TrueFaces


class SyntheticLabels(NamedTuple):
    """What a face of the data set is of. Each is ``(batch,)``."""

    identities: Tensor
    ages: Tensor
    """Years."""
    pictures: Tensor
    """Number that pose, light and background are drawn by."""


class SyntheticFaces(Dataset[FaceSample]):
    """Faces of known identity and age, rendered on demand; nobody's consent is needed.

    Face i is of person ``i // faces_per_identity``. The faces of a person are spread over the ages: the k-th of A is in
    the k-th of A equal parts of ``ages``. Everything follows from ``seed`` and i.

    Args:
        num_identities: People.
        faces_per_identity: Faces of each.
        ages: Youngest and oldest, in years.
        seed: Another seed is another population.
        first_identity: Number of the first person: data sets that do not overlap share no person.
        template: Where the landmarks lie, and the size; the ArcFace template of 112×112 by default.
        device: Where faces are rendered; a GPU does thousands a second, for :meth:`batch`. A ``DataLoader`` with
            worker processes wants the CPU.

    Raises:
        ValueError: If a number is out of range, or ages are not two rising numbers in [0, 100].

    Example:
        >>> faces = SyntheticFaces(1000, faces_per_identity=8)
        >>> len(faces), faces[17].identity, faces[17].image.shape
        (8000, 2, torch.Size([3, 112, 112]))
    """

    def __init__(
        self,
        num_identities: int,
        *,
        faces_per_identity: int = 8,
        ages: tuple[float, float] = (3.0, 83.0),
        seed: int = 0,
        first_identity: int = 0,
        template: FaceTemplate | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        for name, value, least in (
            ("num_identities", num_identities, 1),
            ("faces_per_identity", faces_per_identity, 1),
            ("first_identity", first_identity, 0),
        ):
            if value < least:
                raise ValueError(f"SyntheticFaces: {name!r} must be at least {least}, got {value}.")
        if not 0 <= seed <= LARGEST_SEED:
            raise ValueError(f"SyntheticFaces: 'seed' must lie in 0 ... 2**64 - 1, got {seed}.")
        if not 0 <= ages[0] < ages[1] <= 100:
            raise ValueError(f"SyntheticFaces: 'ages' must be two rising years in [0, 100], got {ages}.")
        self.num_identities, self.faces_per_identity = num_identities, faces_per_identity
        self.age_range, self.seed, self.first_identity = ages, seed, first_identity
        self.renderer = FaceRenderer(template=template, seed=seed).to(device).eval()

    def __len__(self) -> int:
        return self.num_identities * self.faces_per_identity

    def labels(self, indices: Sequence[int] | Tensor) -> SyntheticLabels:
        """Return identity, age and picture of faces without rendering them."""
        at = torch.as_tensor(indices, dtype=torch.int64).reshape(-1)
        if at.numel() and (int(at.min()) < 0 or int(at.max()) >= len(self)):
            raise IndexError(f"SyntheticFaces: indices must lie in [0, {len(self)}), got {at.tolist()[:5]}.")
        identities, part = at // self.faces_per_identity, at % self.faces_per_identity
        pictures = at + self.first_identity * self.faces_per_identity
        share = (part + draw_uniform(self.seed, Purpose.AGE, pictures, count=1)[:, 0]) / self.faces_per_identity
        low, high = self.age_range
        return SyntheticLabels(identities, (low + (high - low) * share).float(), pictures)

    def truth(self, indices: Sequence[int] | Tensor) -> TrueFaces:
        """Render faces with their landmarks, depth, mask and all factors, on the data set's device."""
        labels = self.labels(indices)
        return self.renderer(labels.identities + self.first_identity, labels.ages, labels.pictures)

    def batch(self, indices: Sequence[int] | Tensor) -> FaceBatch:
        """Render a batch, on the data set's device."""
        labels, truth = self.labels(indices), self.truth(indices)
        device = truth.images.device
        return FaceBatch(
            images=truth.images,
            identities=labels.identities.to(device),
            ages=labels.ages.to(device),
            genders=truth.factors.traits.gender.to(device),
            indices=torch.as_tensor(indices, dtype=torch.int64, device=device).reshape(-1),
        )

    def __getitem__(self, index: int) -> FaceSample:
        index = int(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"SyntheticFaces: index must lie in [0, {len(self)}), got {index}.")
        return self.__getitems__([index % len(self)])[0]

    def __getitems__(self, indices: list[int]) -> list[FaceSample]:
        """What a ``DataLoader`` asks for: a batch rendered at once."""
        batch = self.batch(indices)
        columns = (batch.identities.tolist(), batch.ages.tolist(), batch.genders.tolist(), batch.indices.tolist())
        return [FaceSample(image, *row) for image, *row in zip(batch.images.cpu(), *columns, strict=True)]
