"""P people with K faces each in every batch."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from facemtl.data.label_columns import Labels, members_of, whole_numbers
from facemtl.data.permutation import EpochPermutations
from facemtl.data.random_words import random_words
from facemtl.data.samplers import GlobalBatchSampler, whole_number

_PURPOSE = 4


class IdentitySampler(GlobalBatchSampler):
    """Batches of P different people with K faces each, as losses that compare faces want them.

    All people are equally frequent, whatever the number of their faces. In an epoch of ⌊people / P⌋ batches no person
    comes twice; the people that do not fill a batch are left out of this epoch, other ones of the next. A person's K
    faces are K different ones, and further visits take the rest before any comes again (up to the n mod K that fill no
    visit, others each time). A person's faces stay on one process. Who has fewer than K faces shows each of them ⌊K/n⌋
    or ⌈K/n⌉ times, or is left out. Distributed, endless and resumable as :class:`facemtl.ShuffledSampler` is; a common
    ``MPerClassSampler`` is none of these.

    Args:
        identities: ``(faces,)``; −1 is unknown.
        identities_per_batch: P, people in the batches of all processes together; a multiple of ``world_size``.
        faces_per_identity: K.
        seed: Of the run, 0 to 2⁶⁴ − 1.
        rank: This process's number; torch.distributed's by default.
        world_size: How many processes; torch.distributed's by default.
        on_few_faces: What becomes of people with fewer than K faces: ``"repeat"`` or ``"leave_out"``.

    Raises:
        ValueError: If there are fewer than P people, labels are out of range, or a number is.
        TypeError: If labels are not whole numbers.

    Example:
        >>> sampler = IdentitySampler([7, 7, 7, 8, 8, 9], identities_per_batch=2, faces_per_identity=2)
        >>> batch = sampler.batch(0)
        >>> [7, 7, 7, 8, 8, 9][batch[0]] == [7, 7, 7, 8, 8, 9][batch[1]]
        True
    """

    num_left_out: int
    """Faces that are never drawn, of unknown people or of those with too few faces."""
    num_identities: int
    """People that are drawn."""

    def __init__(
        self,
        identities: Labels,
        *,
        identities_per_batch: int,
        faces_per_identity: int,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        on_few_faces: Literal["repeat", "leave_out"] = "repeat",
    ) -> None:
        column = whole_numbers("IdentitySampler", "identities", identities)
        faces_per_identity = whole_number("IdentitySampler", "faces_per_identity", faces_per_identity, lowest=1)
        if on_few_faces not in ("repeat", "leave_out"):
            raise ValueError(
                f'IdentitySampler: \'on_few_faces\' must be "repeat" or "leave_out", got {on_few_faces!r}.'
            )
        super().__init__(
            units=("identities_per_batch", identities_per_batch),
            faces_per_unit=faces_per_identity,
            seed=seed,
            rank=rank,
            world_size=world_size,
            labels=column,
        )
        self._faces_per_identity, self._on_few_faces = faces_per_identity, on_few_faces
        self._members = _people(column, faces_per_identity if on_few_faces == "leave_out" else 1)
        self.num_identities = len(self._members)
        self.num_left_out = len(column) - sum(len(faces) for faces in self._members)
        if self.num_identities < identities_per_batch:
            raise ValueError(
                f"IdentitySampler: 'identities_per_batch' must be at most the number of people that can be drawn, "
                f"{self.num_identities}, got {identities_per_batch}. Lower it, or faces_per_identity."
            )
        self._people_walk = EpochPermutations(self.num_identities, seed=seed, purpose=_PURPOSE)

    def _units(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        step, first = divmod(start, self._units_per_batch)
        epoch, batch = divmod(step, self.num_identities // self._units_per_batch)
        places = slice(batch * self._units_per_batch + first, batch * self._units_per_batch + first + stop - start)
        people = self._people_walk.epoch(epoch)[places]
        return np.stack([self._faces(int(person), epoch) for person in people])

    def _faces(self, person: int, visit: int) -> npt.NDArray[np.int64]:
        """K faces of a person: as many visits as the faces last for share one permutation of them."""
        faces, wanted = self._members[person], self._faces_per_identity
        epoch, place = divmod(visit, max(len(faces) // wanted, 1))
        order = np.argsort(random_words(self.seed, (_PURPOSE + 1, epoch, person), count=len(faces)), kind="stable")
        return faces[np.resize(order[place * wanted : (place + 1) * wanted], wanted)]

    def _identity(self) -> dict[str, Any]:
        return {
            **super()._identity(),
            "faces_per_identity": self._faces_per_identity,
            "on_few_faces": self._on_few_faces,
        }


def _people(identities: npt.NDArray[np.int64], fewest: int) -> list[npt.NDArray[np.int64]]:
    """Faces of each person who has at least ``fewest``, in the order of identities."""
    names, column = np.unique(identities, return_inverse=True)
    people = members_of(column.reshape(-1).astype(np.int64), len(names))
    return [faces for name, faces in zip(names, people, strict=True) if name >= 0 and len(faces) >= fewest]
