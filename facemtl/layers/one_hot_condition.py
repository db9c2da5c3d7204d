"""Conditioning on an age group by one-hot maps: the discriminator's way, and the generator's baseline without ICM."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from facemtl._core.checks import check_feature_map, check_indices
from facemtl._core.shapes import FeatureMap, GroupLabels


def one_hot_maps(groups: GroupLabels, num_groups: int, like: FeatureMap) -> Tensor:
    """Return maps that are 1 everywhere in channel ``groups[i]`` of sample ``i`` and 0 elsewhere.

    A view of one row a sample, in the size, dtype and device of ``like``; no device value is read.

    Args:
        groups: ``(batch,)`` group indices. One outside [0, ``num_groups``) gives zeros.
        num_groups: Channels of the result.
        like: ``(batch, channels, height, width)``.

    Returns:
        ``(batch, num_groups, height, width)``.

    Example:
        >>> import torch
        >>> one_hot_maps(torch.tensor([2, 0]), 3, torch.zeros(2, 8, 1, 1)).flatten(1).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    rows = groups.unsqueeze(1) == torch.arange(num_groups, device=groups.device)
    return rows.to(like.dtype)[:, :, None, None].expand(-1, -1, like.shape[2], like.shape[3])


class OneHotCondition(nn.Module):
    r"""Condition an identity map on an age group by a one-hot vector: the baseline that the ICM replaces.

    One-hot maps of the target group are concatenated to the identity map, and two convolutions fuse them:

    .. math:: y = C_{3 \times 3}(\mathrm{act}(C_{1 \times 1}([x \mid \mathrm{onehot}(t)])))

    The paper compares with "MTLFace without ICM", "a common cGANs-based method that uses one-hot encoding", and gives
    no layer; this arrangement is facemtl's. Two points matter. A 1×1 convolution over one-hot maps *is* a table of
    one bias vector for each group, so that is what is stored (``group_bias``), and the convolution over the
    identity map is computed once for all groups. And no norm stands before the activation: the group is there a
    constant of each channel, which an instance norm would cancel, so that the decoder could not see the group.

    Args:
        channels: Channels of the identity map and of the result.
        num_groups: Age groups.
        activation: ``"relu"`` or ``"prelu"`` (one slope a channel, 0.25 at first).
        device: Where the parameters live.
        dtype: Their dtype.

    Shape:
        - identity_map: ``(batch, channels, height, width)``; groups: ``(batch,)``.
        - Output: as ``identity_map``.

    Raises:
        ShapeError: If an input has the wrong rank, channels or batch.
        TypeError: If ``identity_map`` is not floating point or ``groups`` not integer.
        ValueError: If a group lies outside [0, ``num_groups``); at construction, for sizes that are not positive or an
            unknown activation.

    Note:
        Parameters start as `torch.nn.Conv2d` of ``channels + num_groups`` inputs would start them. Train and eval mode
        are alike.

    References:
        MTLFace (CVPR 2021), section 4.4 and supplement C.

    Example:
        >>> import torch
        >>> condition = OneHotCondition(16, num_groups=7)
        >>> identity_map = torch.randn(2, 16, 7, 7)
        >>> condition(identity_map, torch.tensor([0, 6])).shape
        torch.Size([2, 16, 7, 7])
        >>> condition.all_groups(identity_map).shape
        torch.Size([2, 7, 16, 7, 7])
    """

    def __init__(
        self,
        channels: int = 512,
        *,
        num_groups: int = 7,
        activation: str = "relu",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("num_groups", num_groups)):
            if value < 1:
                raise ValueError(f"{type(self).__name__}: '{name}' must be positive, got {value}.")
        if activation not in ("relu", "prelu"):
            raise ValueError(f"{type(self).__name__}: 'activation' must be 'relu' or 'prelu', got {activation!r}.")
        self.channels = channels
        self.num_groups = num_groups
        self.features = nn.Conv2d(channels, channels, 1, device=device, dtype=dtype)
        self.group_bias = nn.Parameter(torch.empty(num_groups, channels, device=device, dtype=dtype))
        self.activation = nn.PReLU(channels, device=device, dtype=dtype) if activation == "prelu" else nn.ReLU()
        self.fusion = nn.Conv2d(channels, channels, 3, padding=1, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start again: the first convolution and the group table as one convolution of all their inputs."""
        bound = (self.channels + self.num_groups) ** -0.5
        for parameter in (self.features.weight, self.features.bias, self.group_bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -bound, bound)
        self.fusion.reset_parameters()

    def forward(self, identity_map: FeatureMap, groups: GroupLabels) -> Tensor:
        """Return ``identity_map`` conditioned on one group a sample."""
        check_feature_map(type(self).__name__, "identity_map", identity_map, channels=self.channels)
        check_indices(
            type(self).__name__,
            "groups",
            groups,
            batch=identity_map.shape[0],
            limit=self.num_groups,
            limit_name="num_groups",
        )
        bias = F.embedding(groups, self.group_bias)[:, :, None, None]
        return self.fusion(self.activation(self.features(identity_map) + bias))

    def all_groups(self, identity_map: FeatureMap) -> Float[Tensor, "batch groups channels height width"]:
        """Return ``identity_map`` conditioned on every group: ``(batch, num_groups, channels, height, width)``."""
        check_feature_map(f"{type(self).__name__}.all_groups", "identity_map", identity_map, channels=self.channels)
        features = self.features(identity_map).unsqueeze(1) + self.group_bias[:, :, None, None]
        fused = self.fusion(self.activation(features.flatten(0, 1)))
        return fused.unflatten(0, (identity_map.shape[0], self.num_groups))
