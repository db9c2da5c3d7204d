"""Aligned face crops from photographs: fit a similarity for each face, then sample the crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor, nn

from facemtl._core.precision import widest_dtype, without_autocast
from facemtl.alignment.aligner_input import check_aligner_input
from facemtl.alignment.crop_sampling import Backend, Sampling, sample_crops
from facemtl.alignment.sampling import Padding
from facemtl.alignment.similarity import estimate_similarity
from facemtl.alignment.templates import FaceTemplate


class AlignedFaces(NamedTuple):
    """Crops, and how each came out of its photograph."""

    crops: Tensor
    """``(faces, 3, height, width)`` in [-1, 1], or uint8; mid grey where ``valid`` is false."""

    matrices: Tensor
    """``(faces, 2, 3)``, photograph to crop (:func:`~facemtl.alignment.similarity.invert_similarity` turns it)."""

    valid: Tensor
    """``(faces,)`` Bool, whether the landmarks determine a crop."""

    problems: Tensor
    """``(faces,)`` int64, a :class:`~facemtl.alignment.similarity.LandmarkProblem` for each face."""

    residuals: Tensor
    """``(faces,)``, root mean square distance of the carried landmarks from the template in pixels of the crop."""


class FaceAligner(nn.Module):
    """Cut out faces so that their landmarks come to stand on a template.

    A similarity is fitted to each face's landmarks in closed form, all faces at once, and the crop is sampled from the
    pixels where they lie: several faces of one photograph share it, and a uint8 photograph is never copied whole into
    floats, which is where ``kornia.geometry.transform.warp_affine`` spends its time. What the released code of face
    models does instead, OpenCV's bilinear ``warpAffine``, aliases where a face is larger than its crop; here a pixel of
    the crop is the mean of the area that it covers (at least 46 dB against that mean, up to 12 pixels to one).

    Gradients flow to float images and to landmarks. In eager mode each face on a CPU is made from the part of its
    photograph that it needs, by OpenCV 5 if it is installed, the photographs are uint8 and the landmarks want no
    gradient, else by torch. On other devices, and under torch.compile and torch.export, nothing depends on values:
    no device is waited for.

    Args:
        template: Where the landmarks go, and the crops' size; by default
            :meth:`FaceTemplate.arcface() <facemtl.alignment.templates.FaceTemplate.arcface>`.
        antialias: Average over the area that a pixel of the crop covers. It changes nothing at scales (pixels of
            the photograph to one of the crop) up to 1.
        padding: What is outside the photograph, black (``"zeros"``) or its nearest pixel (``"border"``).
        cv2_compat: Make the crops that OpenCV 4's ``warpAffine`` makes, bit by bit, whose coordinates are 32nds of a
            pixel: for weights that were trained on such crops. Needs uint8 images, and is not anti-aliased.
        output: Crops in [-1, 1] (``"model"``), or uint8 without a gradient (``"uint8"``).
        invalid: Bad landmarks give a grey crop, of which ``valid`` and ``problems`` tell (``"mask"``), or raise
            (``"error"``, which reads the device).
        backend: Who samples uint8 images on a CPU in eager mode: whoever is fastest (``"auto"``), ``"torch"`` or
            ``"opencv"``. The two differ by at most 1/255.

    Raises:
        ValueError: If an option is none of its values.

    Example:
        >>> import facemtl
        >>> template = FaceTemplate.arcface(112)
        >>> photographs = torch.randint(256, (2, 3, 300, 300), dtype=torch.uint8)
        >>> landmarks = (1.5 * template.tensor() + 40).expand(3, 5, 2)  # three faces, two of them in one photograph
        >>> faces = FaceAligner(template)(photographs, landmarks, image_index=torch.tensor([0, 1, 1]))
        >>> faces.crops.shape, faces.valid.tolist()
        (torch.Size([3, 3, 112, 112]), [True, True, True])
        >>> carried = facemtl.transform_points(faces.matrices, landmarks)  # onto the template
        >>> bool((carried - template.tensor()).abs().max() < 1e-9)
        True
    """

    def __init__(
        self,
        template: FaceTemplate | None = None,
        *,
        antialias: bool = True,
        padding: Padding = "zeros",
        cv2_compat: bool = False,
        output: Literal["model", "uint8"] = "model",
        invalid: Literal["mask", "error"] = "mask",
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        for name, value, choices in (
            ("padding", padding, ("zeros", "border")),
            ("output", output, ("model", "uint8")),
            ("invalid", invalid, ("mask", "error")),
            ("backend", backend, ("auto", "torch", "opencv")),
        ):
            if value not in choices:
                raise ValueError(f"FaceAligner: '{name}' must be one of {', '.join(choices)}, got {value!r}.")
        self.template = FaceTemplate.arcface() if template is None else template
        self.invalid: Literal["mask", "error"] = invalid
        size = (self.template.height, self.template.width)
        self.sampling = Sampling(size, antialias and not cv2_compat, padding, cv2_compat, output, backend)

    def forward(
        self,
        images: UInt8[Tensor, "images 3 height width"]
        | Float[Tensor, "images 3 height width"]
        | Sequence[UInt8[Tensor, "3 _ _"] | Float[Tensor, "3 _ _"]],
        landmarks: Float[Tensor, "faces points 2"],
        *,
        image_index: Integer[Tensor, " faces"] | None = None,
    ) -> AlignedFaces:
        """Align the faces of ``images``.

        Args:
            images: RGB ``(images, 3, height, width)``, or a list of ``(3, height, width)`` of different sizes: uint8,
                or floating point in [-1, 1]. Half precision is sampled in float32.
            landmarks: (x, y) of each landmark in its photograph, in pixels, in the template's order.
            image_index: Which image each face is in; needed unless there is one face in each image.

        Shape:
            ``images`` as above, ``landmarks`` ``(faces, points, 2)``, crops ``(faces, 3, height, width)`` of the
            template, also where there are no faces.

        Returns:
            :class:`AlignedFaces`. Crops in [-1, 1] are float64 for float64 images, else float32.

        Raises:
            ShapeError: If shapes disagree.
            TypeError: If a dtype is unwanted, or images are of several.
            ValueError: If pixels of a float image are out of range; if ``image_index`` is; with ``invalid="error"``,
                if landmarks are bad, naming the faces.
        """
        check_aligner_input(images, landmarks, image_index, points=len(self.template.points))
        with without_autocast(landmarks):
            target = self.template.tensor(dtype=widest_dtype(landmarks), device=landmarks.device)
            fit = estimate_similarity(landmarks, target, invalid=self.invalid)
            crops = sample_crops(images, fit.matrices, image_index, self.sampling)
            if torch.compiler.is_compiling() or fit.valid.device.type != "cpu" or not bool(fit.valid.all()):
                grey = 128 if crops.dtype == torch.uint8 else 0.0
                crops = torch.where(fit.valid[:, None, None, None], crops, grey)
        return AlignedFaces(crops, *fit)

    def extra_repr(self) -> str:
        """Options, as a printed model shows them."""
        return ", ".join(f"{name}={value!r}" for name, value in self.sampling._asdict().items())
