"""Which people can have k faces each in a set whose cells hold so many faces and no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_Counts = Sequence[Sequence[int]]


class IdentityPlaces:
    """Places for ``wanted`` faces of each person, in cells of limited room; people are added one by one.

    A person is added if room for them can be made by moving others' faces to other cells where these have faces too,
    and is refused only if it cannot: this is maximum flow, augmented along shortest paths. Adding further people
    never makes room, so who was refused would be refused later, too.

    The paths run over cells, of which there are a dozen, and not over people, of whom there are a hundred thousand:
    for each pair of cells a stack has people with a face placed in the first and an unplaced one in the second.

    Args:
        available: Faces of each person in each cell.
        room: Places in each cell.
        wanted: Faces that each person must have.
    """

    placed: list[list[int]]
    """Faces of each person that have a place, by cell; all zero for those that were not added."""

    def __init__(self, available: _Counts, room: int, wanted: int) -> None:
        self._available, self._wanted = available, wanted
        self._cells = range(len(available[0]) if available else 0)
        self._free = [room for _ in self._cells]
        self._closed: set[int] = set()  # full cells out of which nothing can move: this never changes again
        self._movable: list[list[list[int]]] = [[[] for _ in self._cells] for _ in self._cells]
        self.placed = [[0] * len(self._cells) for _ in available]

    def add(self, people: Iterable[int]) -> list[int]:
        """Add as many of ``people`` as fit, in this order; give those that were added."""
        return [person for person in people if self._add(person)]

    def _add(self, person: int) -> bool:
        available = self._available[person]
        if sum(count for cell, count in enumerate(available) if cell not in self._closed) < self._wanted:
            return False
        if sum(self._free) < self._wanted:
            return False
        for number in range(self._wanted):
            if not self._place(person, first=number == 0):
                self._remove(person)
                return False
        for cell in self._cells:
            if self.placed[person][cell]:
                self._note_moves(person, cell)
        return True

    def _place(self, person: int, *, first: bool) -> bool:
        """Place one more face, in the emptiest cell that it can have, or else by moving others."""
        available, placed, free = self._available[person], self.placed[person], self._free
        starts = [cell for cell in self._cells if available[cell] > placed[cell] and cell not in self._closed]
        if not starts:
            return False
        emptiest = max(starts, key=free.__getitem__)
        if free[emptiest] <= 0:
            path = self._path(starts, close=first)
            if path is None:
                return False
            self._move_along(path)
            emptiest = path[0]
        placed[emptiest] += 1
        free[emptiest] -= 1
        return True

    def _path(self, starts: Sequence[int], *, close: bool) -> list[int] | None:
        """The shortest way from one of ``starts`` to a cell with room, where each step can move a face.

        Where there is none, ``close`` says that the cells seen will never have any: not while the room that is missing
        may be given back, if the person who took it is refused.
        """
        before: dict[int, int | None] = dict.fromkeys(starts)
        waiting = list(starts)
        for cell in waiting:
            if self._free[cell] > 0:
                path = [cell]
                while (previous := before[path[-1]]) is not None:
                    path.append(previous)
                return path[::-1]
            for other in self._cells:
                if other not in before and other not in self._closed and self._mover(cell, other) is not None:
                    before[other] = cell
                    waiting.append(other)
        if close:
            self._closed.update(waiting)
        return None

    def _mover(self, cell: int, other: int) -> int | None:
        """Someone whose face can move from ``cell`` to ``other``."""
        stack = self._movable[cell][other]
        while stack:
            person = stack[-1]
            if self.placed[person][cell] > 0 and self._available[person][other] > self.placed[person][other]:
                return person
            stack.pop()
        return None

    def _move_along(self, path: Sequence[int]) -> None:
        # From the end, so that each cell has room when a face comes.
        for cell, other in zip(path[-2::-1], path[:0:-1], strict=True):
            person = self._mover(cell, other)
            assert person is not None
            self.placed[person][cell] -= 1
            self.placed[person][other] += 1
            self._free[cell] += 1
            self._free[other] -= 1
            self._note_moves(person, other)
            for source in self._cells:  # there is an unplaced face in ``cell`` again
                if source != cell and self.placed[person][source]:
                    self._movable[source][cell].append(person)

    def _note_moves(self, person: int, cell: int) -> None:
        available, placed = self._available[person], self.placed[person]
        for other in self._cells:
            if other != cell and available[other] > placed[other]:
                self._movable[cell][other].append(person)

    def _remove(self, person: int) -> None:
        for cell in self._cells:
            self._free[cell] += self.placed[person][cell]
            self.placed[person][cell] = 0
