"""A bank of filters of which each group owns a contiguous span, stored without the filters that never act."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CompactBank = Float[Tensor, "pairs kernel kernel"]


@dataclass(frozen=True, kw_only=True)
class FilterBankLayout:
    r"""Which channels of a filter bank belong to which group.

    Group ``g`` owns the channels ``[starts[g], starts[g] + unit)``, and ``starts[g + 1] = int(starts[g] +
    (1 - shared_fraction) * unit)``: neighbours share ``shared`` channels, groups that are not neighbours share none.
    The paper shares 1/8 of 128 channels (starts 0, 112, …, 672), the code of 2021 a fraction of 0.1 (0, 115, …, 690).

    A convolution from bank to bank, each sample masked to its group's span before and after, only ever uses the weights
    between two channels of one span: ``num_pairs`` of ``channels**2``. A *compact bank* is the tensor ``(num_pairs,
    kernel, kernel)`` of just these, row after row (output channels) as they occur in the dense matrix:

    * rows of one group hold ``unit`` weights, rows that two groups share the ``2 * unit - shared`` weights of both;
    * so the bank repeats with a period of ``unit**2 - shared**2``, the same rows of all groups are one strided view of
      it, and a weight that two groups share is one entry, whose gradient sums both groups' gradients.

    Args:
        num_groups: Number of groups, at least 1 (7 in the paper).
        unit: Channels of a group, at least 1 (128 in the paper).
        shared_fraction: s, the share of a group's channels that it shares with the next, in [0, 1/2]. Beyond 1/2
            groups that are not neighbours would share filters too; that is refused.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> layout = FilterBankLayout(num_groups=7, unit=128, shared_fraction=1 / 8)
        >>> layout.starts, layout.channels
        ((0, 112, 224, 336, 448, 560, 672), 800)
        >>> layout.num_pairs, layout.channels**2
        (113152, 640000)
    """

    num_groups: int = 7
    unit: int = 128
    shared_fraction: float = 1 / 8

    def __post_init__(self) -> None:
        for name in ("num_groups", "unit"):
            if getattr(self, name) < 1:
                raise ValueError(f"{type(self).__name__}: '{name}' must be at least 1, got {getattr(self, name)}.")
        if not 0.0 <= self.shared_fraction <= 0.5:
            raise ValueError(
                f"{type(self).__name__}: 'shared_fraction' must lie in [0, 0.5], got {self.shared_fraction}. "
                "Beyond one half, groups that are not neighbours would share filters."
            )
        if 2 * self.shared > self.unit:
            raise ValueError(
                f"{type(self).__name__}: 'shared_fraction' must leave each group's halves to one neighbour each, got "
                f"{self.shared_fraction} of unit={self.unit}, which rounds up to {self.shared} channels. Choose an "
                "even unit or a smaller fraction."
            )

    @property
    def step(self) -> int:
        """Channels from the start of a group to the start of the next."""
        return int((1.0 - self.shared_fraction) * self.unit + 1e-9)

    @property
    def shared(self) -> int:
        """Channels that a group shares with the next."""
        return self.unit - self.step

    @property
    def starts(self) -> tuple[int, ...]:
        """First channel of each group."""
        return tuple(self.step * group for group in range(self.num_groups))

    @property
    def spans(self) -> tuple[slice, ...]:
        """Channels of each group."""
        return tuple(slice(start, start + self.unit) for start in self.starts)

    @property
    def channels(self) -> int:
        """Channels that belong to any group."""
        return self.step * (self.num_groups - 1) + self.unit

    @property
    def dense_channels(self) -> int:
        """Channels of the released code's bank, whose last ones may belong to no group (channel 818 of 819)."""
        width = int(self.unit * (self.num_groups - (self.num_groups - 1) * self.shared_fraction) + 1e-9)
        return max(width, self.channels)

    @property
    def num_pairs(self) -> int:
        """How many weights act, which is how many pairs of output and input channel some group owns both of."""
        return self.num_groups * self.unit**2 - (self.num_groups - 1) * self.shared**2

    def masks(self, *, device: torch.device | None = None) -> Bool[Tensor, "groups bank"]:
        """The router's table: whether a group owns a channel."""
        channel = torch.arange(self.channels, device=device)
        start = torch.tensor(self.starts, device=device)[:, None]
        return (channel >= start) & (channel < start + self.unit)

    def split(self, features: Tensor, dim: int = 0) -> Tensor:
        """Strided view of the groups' overlapping spans along ``dim``: groups first, the span where ``dim`` was."""
        spans = features.unfold(dim, self.unit, self.step) if self.step else features.unsqueeze(-1)
        return spans.movedim(dim, 0).movedim(-1, dim + 1)


def bank_from_dense(dense: Float[Tensor, "out_bank in_bank kernel kernel"], layout: FilterBankLayout) -> CompactBank:
    """Keep the weights of a dense bank-to-bank convolution that act.

    Args:
        dense: ``(bank, bank, kernel, kernel)``, with ``layout.channels`` or more channels.
        layout: The bank's layout.

    Returns:
        ``(num_pairs, kernel, kernel)``, detached.

    Example:
        >>> import torch
        >>> layout = FilterBankLayout(num_groups=2, unit=2, shared_fraction=1 / 2)
        >>> dense = torch.arange(9.0).view(3, 3, 1, 1)
        >>> bank_from_dense(dense, layout).flatten().tolist()
        [0.0, 1.0, 3.0, 4.0, 5.0, 7.0, 8.0]
    """
    bank = dense.new_empty((layout.num_pairs, *dense.shape[2:]))
    for group, span in enumerate(layout.spans):
        for rows, own in group_rows(bank, group, layout):
            rows.copy_(dense.detach()[span, span][own])
    return bank


def bank_to_dense(bank: CompactBank, layout: FilterBankLayout, *, fill: float = 0.0) -> Tensor:
    """Build the dense bank-to-bank convolution of the released code's width.

    Args:
        bank: ``(num_pairs, kernel, kernel)``.
        layout: The bank's layout.
        fill: Value of the weights that never act.

    Returns:
        ``(dense_channels, dense_channels, kernel, kernel)``, detached.
    """
    width = layout.dense_channels
    dense = bank.new_full((width, width, *bank.shape[1:]), fill)
    for group, span in enumerate(layout.spans):
        dense[span, span] = torch.cat([rows for rows, _ in group_rows(bank.detach(), group, layout)])
    return dense


def group_rows(bank: CompactBank, group: int, layout: FilterBankLayout) -> tuple[tuple[Tensor, slice], ...]:
    """Strided views of a group's rows in a compact bank, ``(rows, unit, kernel, kernel)``, and which rows they are.

    In order: the rows that it shares with the group before, its own, those that it shares with the group after.
    """
    unit, shared = layout.unit, layout.shared
    both = 2 * unit - shared
    start = group * (unit**2 - shared**2)
    # Rows that two groups share begin with the earlier group's weights and end with the later group's.
    before = (start - shared * (unit - shared) + unit - shared, both) if group else (0, unit)
    after = (start + (unit - shared) * unit, both if group < layout.num_groups - 1 else unit)
    pair, *tap = bank.stride()

    def rows(first: int, pitch: int, count: int) -> Tensor:
        strides = (pitch * pair, pair, *tap)
        return bank.as_strided((count, unit, *bank.shape[1:]), strides, bank.storage_offset() + first * pair)

    return (
        (rows(*before, shared), slice(0, shared)),
        (rows(start + shared * unit, unit, unit - 2 * shared), slice(shared, unit - shared)),
        (rows(*after, shared), slice(unit - shared, unit)),
    )
