"""The identity conditional module: an identity map, seen through the filters of a target age group."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from facemtl._core.checks import check_feature_map, check_indices
from facemtl._core.shapes import FeatureMap, GroupLabels
from facemtl.layers.bank_activation import BankActivation, BankActivationName, check_activation, plain_activation
from facemtl.layers.bank_exit import BankExit
from facemtl.layers.compact_bank import CompactBankConvolution, CompactBankEntry
from facemtl.layers.dense_bank import DenseBankConvolution, DenseBankEntry
from facemtl.layers.filter_bank import FilterBankLayout
from facemtl.layers.routing import Routing, route, route_all

BankNorm = Literal["instance", "batch"]


class IdentityConditionalBlock(nn.Module):
    r"""Residual block within the channels of each sample's group (the paper's ICB).

    .. math:: y = \mathrm{act}(x + N(C_2(\mathrm{act}(N(C_1(x))))))

    A part of :class:`IdentityConditionalModule`, which sorts the batch by group and selects each group's channels once.

    Args:
        layout: The bank's layout.
        norm: ``"instance"`` or ``"batch"``.
        activation: ``"relu"``, ``"prelu"`` or ``"leaky_relu"`` (slope 0.2).
        device: Where the parameters live.
        dtype: Their dtype.

    Shape:
        - features: ``(batch, unit, height, width)``, the group's own channels, sorted by group; output alike.

    Example:
        >>> layout = FilterBankLayout(num_groups=3, unit=8, shared_fraction=1 / 4)
        >>> block = IdentityConditionalBlock(layout)
        >>> block(torch.randn(2, 8, 7, 7), route(torch.tensor([0, 2]), 3).routing).shape
        torch.Size([2, 8, 7, 7])

    References:
        MTLFace (CVPR 2021), section 3.3.
    """

    def __init__(
        self,
        layout: FilterBankLayout,
        *,
        norm: BankNorm = "instance",
        activation: BankActivationName = "relu",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        convolution = DenseBankConvolution if norm == "batch" else CompactBankConvolution
        self.convolution1 = convolution(layout, **factory)
        self.activation1 = BankActivation(layout, activation, **factory)
        self.convolution2 = convolution(layout, **factory)
        self.activation2 = BankActivation(layout, activation, **factory)

    def forward(self, features: FeatureMap, routing: Routing) -> Tensor:
        """Return the transformed channels of each sample's group."""
        residual = self.activation1(self.convolution1(features, routing), routing)
        return self.activation2(self.convolution2(residual, routing).add_(features), routing)


class IdentityConditionalModule(nn.Module):
    r"""Condition an identity map on a target age group by filters of the group's own (the paper's ICM).

    A bank of filters stands between two 1×1 convolutions. Group ``g`` owns ``unit`` consecutive channels of it and
    shares a fraction of them with each neighbour, so that faces change smoothly with age, while an identity may age in
    a way of its own, which a one-hot condition hardly allows:

    .. math:: y = C_{1 \times 1}(B_n(\dots B_1(\mathrm{act}(N(C_{1 \times 1}(x)))_t)))

    with :math:`(\cdot)_t` the selection of group ``t``'s channels and :math:`B_i` blocks within them
    (:class:`IdentityConditionalBlock`).

    The released code runs the whole bank and multiplies by 0/1 masks. Here only the filters that act are stored and
    run: 9.0 M of 46.9 M parameters with the paper's sizes, with equal outputs and gradients. **With batch norm** in
    train mode each channel's statistics include samples of other groups, which reach it through weights *between*
    groups: that variant keeps the dense bank (and is exact, running statistics included), and slices only the inputs;
    in eval mode it runs the active slices alone. Convolutions in front of a norm have no bias, since the norm makes it
    idle.

    Args:
        channels: Channels of the identity map and of the result.
        num_groups: Age groups.
        unit: Channels of the bank that a group owns.
        shared_fraction: s, the fraction of ``unit`` that two neighbours share, in [0, 1/2].
        num_blocks: Blocks between the 1×1 convolutions; 0 is allowed.
        norm: ``"instance"`` (without scale and shift) or ``"batch"``.
        activation: ``"relu"``, ``"prelu"`` (one slope for each channel of the bank) or ``"leaky_relu"`` (slope 0.2).
        output_norm: Whether norm and activation follow the last 1×1 convolution. The released training code has them,
            the journal's package has not; the paper names the convolution alone.
        device: Where the parameters live.
        dtype: Their dtype.

    Shape:
        - identity_map: ``(batch, channels, height, width)``, any size; groups: ``(batch,)`` integers.
        - Output: as ``identity_map``.

    Raises:
        ShapeError: If an input has the wrong rank, channels or batch.
        TypeError: If ``identity_map`` is not floating point or ``groups`` not integer.
        ValueError: If a group lies outside [0, ``num_groups``); at construction, for an option out of its range.

    Note:
        Weights start as those of a `torch.nn.Conv2d` with as many inputs as act on an output. On a 1×1 map instance
        norm gives 0 (see :func:`~facemtl.layers.instance_norm.instance_norm`), so the module sees nothing there. With
        ``norm="instance"`` train and eval mode are alike.

    References:
        MTLFace (CVPR 2021), section 3.3 and supplement B; Huang, Zhang and Shan, arXiv 2210.09835.

    Example:
        >>> condition = IdentityConditionalModule(16, unit=8)
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
        unit: int = 128,
        shared_fraction: float = 1 / 8,
        num_blocks: int = 4,
        norm: BankNorm = "instance",
        activation: BankActivationName = "relu",
        output_norm: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._check_options(channels, num_blocks, norm, activation)
        layout = FilterBankLayout(num_groups=num_groups, unit=unit, shared_fraction=shared_fraction)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.channels = channels
        self.num_groups = num_groups
        self.norm = norm
        self.layout = layout
        self.entry = (DenseBankEntry if norm == "batch" else CompactBankEntry)(layout, channels, **factory)
        self.activation = BankActivation(layout, activation, **factory)
        self.blocks = nn.ModuleList(
            IdentityConditionalBlock(layout, norm=norm, activation=activation, **factory) for _ in range(num_blocks)
        )
        self.exit = BankExit(layout, channels, norm=norm if output_norm else None, **factory)
        self.output = plain_activation(activation, channels, **factory) if output_norm else nn.Identity()

    @classmethod
    def paper2021(cls, channels: int = 512, **options: Any) -> IdentityConditionalModule:
        """The paper's: instance norm, ReLU, 1/8 of the filters shared. ``options`` as for the class."""
        return cls(channels, **{"norm": "instance", "activation": "relu", "shared_fraction": 1 / 8, **options})

    @classmethod
    def code2021(cls, channels: int = 512, **options: Any) -> IdentityConditionalModule:
        """The released training code's: batch norm, PReLU, a fraction of 0.1 shared, norm and activation at the end.

        ``options`` as for the class.
        """
        preset = {"norm": "batch", "activation": "prelu", "shared_fraction": 0.1, "output_norm": True}
        return cls(channels, **{**preset, **options})

    @classmethod
    def journal2022(cls, channels: int = 512, **options: Any) -> IdentityConditionalModule:
        """The journal's at one scale: instance norm, leaky ReLU, 1/8 shared. ``options`` as for the class."""
        return cls(channels, **{"norm": "instance", "activation": "leaky_relu", "shared_fraction": 1 / 8, **options})

    def forward(self, identity_map: FeatureMap, groups: GroupLabels) -> Tensor:
        """Return ``identity_map`` conditioned on one group a sample."""
        where = type(self).__name__
        check_feature_map(where, "identity_map", identity_map, channels=self.channels)
        check_indices(
            where, "groups", groups, batch=identity_map.shape[0], limit=self.num_groups, limit_name="num_groups"
        )
        routed = route(groups, self.num_groups)
        features = self.entry(identity_map.index_select(0, routed.order), routed.routing)
        features = self.activation(features, routed.routing)
        return self._transform(features, routed.routing).index_select(0, routed.inverse)

    def all_groups(self, identity_map: FeatureMap) -> Float[Tensor, "batch groups channels height width"]:
        """Return ``identity_map`` conditioned on every group: ``(batch, num_groups, channels, height, width)``.

        Equals :meth:`forward` with each sample repeated for each group (one batch, as far as batch norm is concerned),
        but the first convolution, norm and activation run once a sample.
        """
        check_feature_map(f"{type(self).__name__}.all_groups", "identity_map", identity_map, channels=self.channels)
        batch = identity_map.shape[0]
        routing = route_all(batch, self.num_groups, identity_map.device)
        if self.norm == "batch" and self.training:
            repeated = identity_map.repeat(self.num_groups, 1, 1, 1)
            features = self.activation(self.entry(repeated, routing), routing)
        else:
            bank = self.activation.whole(self.entry.whole(identity_map))
            features = torch.cat([bank[:, span] for span in self.layout.spans])
        return self._transform(features, routing).unflatten(0, (self.num_groups, batch)).transpose(0, 1)

    def _transform(self, features: Tensor, routing: Routing) -> Tensor:
        """The blocks and what follows them, on selected channels sorted by group."""
        for block in self.blocks:
            features = block(features, routing)
        return self.output(self.exit(features, routing))

    def _check_options(self, channels: int, num_blocks: int, norm: str, activation: str) -> None:
        where = type(self).__name__
        if channels < 1:
            raise ValueError(f"{where}: 'channels' must be at least 1, got {channels}.")
        if num_blocks < 0:
            raise ValueError(f"{where}: 'num_blocks' must be at least 0, got {num_blocks}.")
        if norm not in ("instance", "batch"):
            raise ValueError(f"{where}: 'norm' must be 'instance' or 'batch', got {norm!r}.")
        check_activation(where, activation)
