"""The aging generator: an identity map and a target age group in, a face of that group out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from facemtl._core.checks import (
    ShapeError,
    check_feature_map,
    check_floating,
    check_images,
    check_rank,
    check_size,
    shape_text,
)
from facemtl._core.shapes import GroupLabels, Images
from facemtl.layers.conditional import IdentityConditionalModule
from facemtl.layers.upsample import (
    DecoderActivation,
    DecoderLevel,
    DecoderNorm,
    add_to_each_target,
    initialise_convolutions,
)

NUM_LEVELS = 4
STRIDE = 2**NUM_LEVELS


class AgingGenerator(nn.Module):
    r"""Synthesize the face of an image at another age: a condition on the age group, then a multi-level decoder.

    .. math:: I_t = I + D(E_{levels}(I), \mathrm{ICM}(X_{id}, t))

    The condition turns the identity map :math:`X_{id}` into one of the target group :math:`t`; four
    :class:`~facemtl.layers.upsample.DecoderLevel` double its size, joining the encoder's features of 1/8, 1/4 and 1/2
    size and, at full size, the image itself; a 1×1 convolution makes three channels of it. They are added to the image
    (``global_residual``), so the decoder learns the change alone; there is no tanh, and pixels may leave
    [-1, 1] a little.

    Several ages of a face share what does not depend on the target. :meth:`all_groups` and :meth:`many` equal
    the repeated :meth:`forward` but take each skip feature through its norm and convolution once.

    Args:
        condition: Any module with ``condition(identity_map, groups)`` and ``condition.all_groups(identity_map)``, as
            :class:`~facemtl.layers.conditional.IdentityConditionalModule`, of which the default (``None``) makes
            one with seven groups; :class:`~facemtl.layers.one_hot_condition.OneHotCondition` is the paper's baseline.
        channels: Channels of the identity map and of the encoder's features at 1/8, 1/4 and 1/2 size.
        widths: Channels of the four levels, at 1/8, 1/4, 1/2 and full size.
        norm: ``"instance"`` (paper) or ``"batch"`` (released code), of the decoder and of the default condition.
        activation: ``"relu"`` (paper) or ``"prelu"`` (released code), of both too.
        global_residual: Whether the image is added to the output.
        device: Where the parameters live.
        dtype: Their dtype.

    Shape:
        - identity_map: ``(batch, channels[0], height / 16, width / 16)``.
        - levels: at least three maps, finest first, of which the last three are read (an encoder's stem feature may
          stand before them): ``(batch, channels[3], height / 2, width / 2)``, ``(batch, channels[2], height / 4,
          width / 4)`` and ``(batch, channels[1], height / 8, width / 8)``.
        - images: ``(batch, 3, height, width)`` in [-1, 1], sides that are multiples of 16.
        - groups: ``(batch,)``, or ``(batch, targets)`` for :meth:`many`.
        - Output: ``(batch, 3, height, width)``, with ``groups`` or ``targets`` after ``batch`` for the other two.

    Raises:
        ShapeError: If an input has the wrong rank, channels, size or batch.
        TypeError: If maps or images are not floating point (``uint8``, say) or ``groups`` not integer.
        ValueError: If a group is out of range (raised by ``condition``); at construction, for channels or widths that
            are not four positive numbers.

    Note:
        The decoder's convolutions start at N(0, 0.01²), 0.01 being the standard deviation, with zero bias. With
        ``norm="batch"`` train and eval mode differ; in train mode the targets of :meth:`many` and :meth:`all_groups`
        are one batch of ``batch * targets`` for the statistics, so they differ from targets taken one by one.

    References:
        MTLFace (CVPR 2021), section 3.3 and supplement B.

    Example:
        >>> import torch
        >>> generator = AgingGenerator(channels=(64, 32, 16, 8), widths=(32, 16, 8, 4))
        >>> images = torch.rand(2, 3, 112, 112) * 2 - 1
        >>> levels = (torch.randn(2, 8, 56, 56), torch.randn(2, 16, 28, 28), torch.randn(2, 32, 14, 14))
        >>> generator(torch.randn(2, 64, 7, 7), levels, images, torch.tensor([0, 6])).shape
        torch.Size([2, 3, 112, 112])
        >>> generator.all_groups(torch.randn(2, 64, 7, 7), levels, images).shape
        torch.Size([2, 7, 3, 112, 112])
    """

    def __init__(
        self,
        condition: nn.Module | None = None,
        *,
        channels: Sequence[int] = (512, 256, 128, 64),
        widths: Sequence[int] = (256, 128, 64, 32),
        norm: DecoderNorm = "instance",
        activation: DecoderActivation = "relu",
        global_residual: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, numbers in (("channels", channels), ("widths", widths)):
            if len(numbers) != NUM_LEVELS or min(numbers) < 1:
                raise ValueError(
                    f"{type(self).__name__}: '{name}' must be {NUM_LEVELS} positive numbers, got {tuple(numbers)}."
                )
        self.channels = tuple(channels)
        self.global_residual = global_residual
        if condition is None:
            condition = IdentityConditionalModule(
                channels[0],
                unit=max(channels[0] // 4, 2),
                norm=norm,
                activation=activation,
                device=device,
                dtype=dtype,
            )
        self.condition = condition
        self.levels = nn.ModuleList(
            DecoderLevel(*sizes, norm=norm, activation=activation, device=device, dtype=dtype)
            for sizes in zip((channels[0], *widths[:-1]), (*channels[1:], 3), widths, strict=True)
        )
        self.output = nn.Conv2d(widths[-1], 3, 1, device=device, dtype=dtype)
        initialise_convolutions(self.output)

    @classmethod
    def code2021(
        cls,
        condition: nn.Module | None = None,
        *,
        channels: Sequence[int] = (512, 256, 128, 64),
        widths: Sequence[int] = (256, 128, 64, 32),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> AgingGenerator:
        """Return the released training code's variant: batch norm and PReLU, in the default condition too."""
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        if condition is None:
            condition = IdentityConditionalModule.code2021(channels[0], unit=max(channels[0] // 4, 2), **factory)
        return cls(condition, channels=channels, widths=widths, norm="batch", activation="prelu", **factory)

    def forward(
        self,
        identity_map: Float[Tensor, "batch channels rows columns"],
        levels: Sequence[Tensor],
        images: Images,
        groups: GroupLabels,
    ) -> Images:
        """Return ``images`` at the age of ``groups``, one target for each."""
        self._check_inputs("forward", identity_map, levels, images)
        conditioned = self._checked("forward", self.condition(identity_map, groups), images.shape[0])
        return self._decode(conditioned, self._skip_shares(levels, images), images)

    def many(
        self,
        identity_map: Float[Tensor, "batch channels rows columns"],
        levels: Sequence[Tensor],
        images: Images,
        groups: Integer[Tensor, "batch targets"],
    ) -> Float[Tensor, "batch targets 3 height width"]:
        """Return ``images`` at the ages of ``groups``, ``targets`` for each: ``(batch, targets, 3, height, width)``."""
        self._check_inputs("many", identity_map, levels, images)
        check_rank(
            f"{type(self).__name__}.many",
            "groups",
            groups,
            ("batch", "targets"),
            advice="Call the generator itself for one target an image." if groups.dim() == 1 else "",
        )
        batch, targets = groups.shape
        if batch != images.shape[0] or targets < 1:
            raise ShapeError(
                f"{type(self).__name__}.many: 'groups' must have shape (batch, targets) = ({images.shape[0]}, >= 1), "
                f"got {shape_text(groups)}."
            )
        repeated = identity_map.unsqueeze(1).expand(-1, targets, -1, -1, -1).flatten(0, 1)
        conditioned = self._checked("many", self.condition(repeated, groups.flatten()), batch * targets)
        return self._decode_targets(conditioned.unflatten(0, (batch, targets)), levels, images)

    def all_groups(
        self,
        identity_map: Float[Tensor, "batch channels rows columns"],
        levels: Sequence[Tensor],
        images: Images,
    ) -> Float[Tensor, "batch groups 3 height width"]:
        """Return ``images`` at every age group: ``(batch, groups, 3, height, width)``."""
        self._check_inputs("all_groups", identity_map, levels, images)
        condition: Any = self.condition
        conditioned = condition.all_groups(identity_map)
        batch, targets = images.shape[0], conditioned.shape[1]
        self._checked("all_groups", conditioned.flatten(0, 1), batch * targets)
        return self._decode_targets(conditioned, levels, images)

    def _skip_shares(self, levels: Sequence[Tensor], images: Tensor) -> list[Tensor]:
        """Return what the skip features and the image add in each level: the same for all targets."""
        skips = (levels[-1], levels[-2], levels[-3], images)
        return [level.skip(skip) for level, skip in zip(self._levels(), skips, strict=True)]

    def _decode(self, conditioned: Tensor, shares: list[Tensor], images: Tensor, *, targets: int = 1) -> Tensor:
        """Decode ``batch * targets`` conditioned maps of ``batch`` images."""
        features = conditioned
        for level, share in zip(self._levels(), shares, strict=True):
            features = level.refine(features, share, targets=targets)
        change = self.output(features)
        return add_to_each_target(change, images, targets) if self.global_residual else change

    def _decode_targets(self, conditioned: Tensor, levels: Sequence[Tensor], images: Tensor) -> Tensor:
        """Decode ``(batch, targets, channels, rows, columns)`` to ``(batch, targets, 3, height, width)``.

        One target after another on a CPU, whose caches a batch of all targets would overflow; all at once elsewhere,
        in one compiled graph, and in train mode, where a batch norm must see them together.
        """
        targets = conditioned.shape[1]
        shares = self._skip_shares(levels, images)
        if self.training or images.device.type != "cpu" or torch.compiler.is_compiling():
            faces = self._decode(conditioned.flatten(0, 1), shares, images, targets=targets)
            return faces.unflatten(0, (images.shape[0], targets))
        return torch.stack([self._decode(one, shares, images) for one in conditioned.unbind(1)], dim=1)

    def _levels(self) -> list[DecoderLevel]:
        return cast("list[DecoderLevel]", list(self.levels))

    def _checked(self, method: str, conditioned: Tensor, rows: int) -> Tensor:
        """Check what ``condition``, which may be the caller's own, has returned."""
        where, name = f"{type(self).__name__}.{method}", "condition(identity_map, groups)"
        check_feature_map(where, name, conditioned, channels=self.channels[0])
        check_size(where, name, conditioned, 0, "batch * targets", rows)
        return conditioned

    def _check_inputs(self, method: str, identity_map: Tensor, levels: Sequence[Tensor], images: Tensor) -> None:
        where = f"{type(self).__name__}.{method}"
        check_images(where, "images", images, multiple_of=STRIDE)
        if len(levels) < NUM_LEVELS - 1:
            raise ShapeError(
                f"{where}: 'levels' must end in the encoder's features of 1/2, 1/4 and 1/8 size, "
                f"got {len(levels)} of them. Pass the encoder's multi-level features, finest first."
            )
        batch, _, height, width = images.shape
        maps = {
            "identity_map": identity_map,
            "levels[-1]": levels[-1],
            "levels[-2]": levels[-2],
            "levels[-3]": levels[-3],
        }
        for index, (name, value) in enumerate(maps.items()):
            stride = STRIDE >> index
            check_floating(where, name, value)
            wanted = (batch, self.channels[index], height // stride, width // stride)
            if value.shape != wanted:
                raise ShapeError(
                    f"{where}: '{name}' (1/{stride} of the images' size) must have shape {wanted}, "
                    f"got {shape_text(value)}. Pass features of these images, finest first, and construct with "
                    f"channels=, the encoder's channels from deep to fine."
                )
