"""Random numbers with random access: word number n of a stream, without the words before it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LARGEST_SEED = 2**64 - 1
_WORDS_OF_A_BLOCK = 4


def random_words(seed: int, stream: tuple[int, int, int], *, start: int = 0, count: int) -> npt.NDArray[np.uint64]:
    """Give words number ``start`` to ``start + count − 1`` of a stream, 64 random bits each.

    Philox in counter mode: the words are a pure function of seed, stream and place. NumPy promises that the raw words
    of its bit generators never change, on any platform, which it does not promise of ``permutation`` or ``integers``.

    Args:
        seed: The run's, 0 to 2⁶⁴ − 1.
        stream: Three numbers in the same range: the purpose, and two that the purpose gives meaning to.
        start: First word's place.
        count: How many words.
    """
    purpose, first, second = stream
    block, skipped = divmod(start, _WORDS_OF_A_BLOCK)
    generator = np.random.Philox(
        counter=np.array([block, first, second, 0], np.uint64), key=np.array([seed, purpose], np.uint64)
    )
    words: npt.NDArray[np.uint64] = generator.random_raw(skipped + count)
    return words[skipped:]
