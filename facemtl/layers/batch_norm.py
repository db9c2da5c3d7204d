"""Batch normalisation that also trains on a batch of one, or of none."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class _LoneSampleMixin(nn.modules.batchnorm._BatchNorm):
    """Fall back to the running statistics where a batch has none of its own."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        if self.training and input.numel() <= self.num_features:
            self._check_input_dim(input)
            return F.batch_norm(
                input,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                training=False,
                eps=self.eps,
            )
        return super().forward(input)


class BatchNorm1d(_LoneSampleMixin, nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` that trains on a batch of 1 and passes an empty batch.

    With one value per channel the batch has no variance: torch raises. Here such a batch is normalised by the running
    statistics, as in eval mode, and leaves them as they are; weight, bias and input still get their gradients. With two
    values or more it is torch's layer to the bit, and the state dict is the same.

    Args:
        num_features: Channels.
        **options: As for `torch.nn.BatchNorm1d`; ``track_running_stats`` stays on.

    Shape:
        - Input and output: ``(batch, num_features)``.

    Example:
        >>> import torch
        >>> norm = BatchNorm1d(4).train()
        >>> norm(torch.ones(1, 4)).shape, norm(torch.ones(0, 4)).shape
        (torch.Size([1, 4]), torch.Size([0, 4]))
    """


class BatchNorm2d(_LoneSampleMixin, nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` that trains on a 1×1 map of a batch of 1 and passes an empty batch.

    See :class:`BatchNorm1d`: with one value per channel, or none, the running statistics serve, unchanged.

    Args:
        num_features: Channels.
        **options: As for `torch.nn.BatchNorm2d`; ``track_running_stats`` stays on.

    Shape:
        - Input and output: ``(batch, num_features, height, width)``.

    Example:
        >>> import torch
        >>> norm = BatchNorm2d(4).train()
        >>> norm(torch.ones(1, 4, 1, 1)).shape
        torch.Size([1, 4, 1, 1])
    """
