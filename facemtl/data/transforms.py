"""What happens to a batch of faces on the device before a network sees it."""

from __future__ import annotations

import torch
from torch import Tensor

from facemtl._core.checks import check_rank


def random_flip(images: Tensor, *, generator: torch.Generator | None = None, probability: float = 0.5) -> Tensor:
    """Mirror each image of a batch left to right, or not: the only augmentation of the paper.

    torchvision's ``RandomHorizontalFlip`` flips a batch as a whole, so it has to run on each image by itself; here
    every image has its own draw and the batch stays on the device. Run it on uint8, before
    :func:`facemtl.to_model_input`: a quarter of the bytes. The draws are those of ``generator``: seeded from the run's
    seed and the step, a run that resumes flips the same faces. A CPU generator flips the same faces on every device.

    Args:
        images: ``(batch, channels, height, width)``, any dtype, contiguous or channels_last.
        generator: Of the draws, on the device of the images or on the CPU; torch's own by default.
        probability: Of a flip, in [0, 1].

    Returns:
        A new tensor of the same shape, dtype and memory format.

    Raises:
        ShapeError: If ``images`` has not four axes.
        ValueError: If ``probability`` lies outside [0, 1].

    Example:
        >>> import torch
        >>> images = torch.arange(6, dtype=torch.uint8).reshape(2, 1, 1, 3)
        >>> random_flip(images, generator=torch.Generator().manual_seed(1)).flatten().tolist()
        [0, 1, 2, 5, 4, 3]
    """
    check_rank("random_flip", "images", images, ("batch", "channels", "height", "width"))
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"random_flip: 'probability' must lie in [0, 1], got {probability}.")
    flipped = draw_flips(len(images), generator=generator, probability=probability, device=images.device)
    if images.device.type == "cpu" and not torch.compiler.is_compiling():
        result = images.clone()
        for row in flipped.nonzero().squeeze(1).tolist():  # four times as fast as a choice for each pixel
            result[row] = images[row].flip(-1)
        return result
    return torch.where(flipped.to(images.device, non_blocking=True)[:, None, None, None], images.flip(-1), images)


def draw_flips(
    count: int,
    *,
    generator: torch.Generator | None = None,
    probability: float = 0.5,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw which images :func:`random_flip` mirrors with the same generator.

    Args:
        count: How many images.
        generator: Of the draws; torch's own by default.
        probability: Of a flip, in [0, 1].
        device: Of the draws without a generator, which has one itself.

    Returns:
        ``(count,)`` bool.

    Example:
        >>> import torch
        >>> draw_flips(2, generator=torch.Generator().manual_seed(1))
        tensor([False,  True])
    """
    device = generator.device if generator is not None else device
    return torch.rand(count, generator=generator, device=device) < probability
