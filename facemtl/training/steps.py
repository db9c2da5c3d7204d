"""The losses of MTLFace's training steps, from modules and a batch. Nothing here touches an optimizer."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from facemtl._core.checks import ShapeError, check_indices, shape_text
from facemtl._core.precision import at_least_float32
from facemtl._core.shapes import AgeLabels, GroupLabels, IdentityLabels, Images, Scalar
from facemtl.layers.evaluating import evaluating
from facemtl.losses.adversarial import LeastSquaresAdversarialLoss
from facemtl.losses.age import AgeEstimationLoss
from facemtl.networks.mtlface import EncodedFaces, FaceEstimates, MTLFace
from facemtl.training.frozen import frozen

IdentityReduction = Literal["mean", "sum"]


class RecognitionLosses(NamedTuple):
    """Losses of age-invariant face recognition; the terms are unweighted."""

    total: Tensor
    """``identity + age_weight · age + adversary_weight · adversary``: call its ``backward()``."""
    identity: Tensor
    """Of the margin head."""
    age: Tensor
    """Of the age head, on the age half of the decomposition."""
    adversary: Tensor
    """Of the age head behind gradient reversal, on the identity half. It rises as the identity half forgets age."""


class DiscriminatorLosses(NamedTuple):
    """Loss of the discriminator, and its mean scores."""

    total: Tensor
    """The adversarial loss, of which ``backward()`` is called."""
    real_score: Tensor
    """Mean score of real faces, without gradient; near 1 for least squares."""
    fake_score: Tensor
    """Mean score of synthesized faces, without gradient; near 0 while the discriminator wins."""


class GeneratorLosses(NamedTuple):
    """Losses of face age synthesis; the terms are unweighted."""

    total: Tensor
    """``adversarial_weight · adversarial + identity_weight · identity + age_weight · age``: call its ``backward()``."""
    adversarial: Tensor
    """How far the discriminator is from taking the faces for real ones of their group."""
    identity: Tensor
    """Squared distance of the identity maps of source and synthesized face."""
    age: Tensor
    """Cross-entropy of the synthesized faces' age group."""


def recognition_losses(
    network: nn.Module,
    head: nn.Module,
    images: Images,
    identities: IdentityLabels,
    ages: AgeLabels,
    *,
    age_loss: nn.Module | None = None,
    age_weight: float = 0.001,
    adversary_weight: float = 0.002,
) -> RecognitionLosses:
    r"""Losses of age-invariant face recognition (AIFR).

    .. math:: L = \mathrm{CosFace}(X_{id}) + \lambda_{age}\,\ell_{AE}(X_{age}) + \lambda_{id}\,\ell_{AE}(GRL(X_{id}))

    The encoder runs once forwards, and once backwards in ``total.backward()``.

    Args:
        network: ``network(images)`` gives :class:`~facemtl.networks.mtlface.FaceEstimates`: an
            :class:`~facemtl.MTLFace`, or its wrapping for several processes.
        head: Margin head: ``head(embeddings, identities)`` is a loss.
        images: ``(batch, 3, height, width)`` RGB in [-1, 1].
        identities: ``(batch,)`` identity indices.
        ages: ``(batch,)`` years in [0, 100]; NaN where nobody knows.
        age_loss: ``age_loss(age_logits, group_logits, ages)``; by default :class:`~facemtl.AgeEstimationLoss` of the
            paper's groups, which leaves NaN ages out.
        age_weight: λ of the age head.
        adversary_weight: λ of the adversary.

    Shape:
        - Output: scalars.

    Raises:
        ValueError: If a label is out of its range (on CPU; see :func:`facemtl.value_checks`).

    References:
        MTLFace (CVPR 2021), section 3.2, Eq. 4 and supplement; λ of the supplement.

    Example:
        >>> import torch, facemtl
        >>> model = facemtl.MTLFace.paper2021(depth=18, width=8, embedding_dimension=32)
        >>> head = facemtl.CosFace(32, 10)
        >>> faces, ages = torch.rand(4, 3, 112, 112) * 2 - 1, torch.tensor([3.0, 30.0, float("nan"), 61.5])
        >>> losses = recognition_losses(model, head, faces, torch.tensor([0, 9, 2, 2]), ages)
        >>> losses.total.backward()
    """
    age_loss = age_loss if age_loss is not None else AgeEstimationLoss(unknown_age=float("nan"))
    estimates: FaceEstimates = network(images)
    identity = head(estimates.embedding, identities)
    age = age_loss(*estimates.age, ages)
    adversary = age_loss(*estimates.adversary, ages)
    return RecognitionLosses(identity + age_weight * age + adversary_weight * adversary, identity, age, adversary)


def encode_sources(recogniser: MTLFace, images: Images) -> EncodedFaces:
    """Encode the faces that are to be aged: in eval mode and without gradients, once for both turns of a step.

    The generator's losses are taken against these maps, and the generator starts from them; no gradient of either
    belongs to the encoder, which recognition alone trains.

    Args:
        recogniser: The model, or its :func:`~facemtl.training.frozen.frozen_recogniser`.
        images: ``(batch, 3, height, width)`` RGB in [-1, 1].

    Returns:
        :class:`~facemtl.networks.mtlface.EncodedFaces`.

    Example:
        >>> import torch
        >>> model = MTLFace.paper2021(depth=18, width=8, embedding_dimension=32)
        >>> encode_sources(model, torch.zeros(2, 3, 112, 112)).identity.requires_grad
        False
    """
    with torch.no_grad(), evaluating(recogniser.encoder, recogniser.decomposition):
        return recogniser.encode(images)


def discriminator_losses(
    discriminator: nn.Module,
    real_faces: Images,
    synthesized: Images,
    groups: GroupLabels,
    *,
    adversarial_loss: nn.Module | None = None,
) -> DiscriminatorLosses:
    r"""Loss of the discriminator: real faces of each group against faces synthesized for it.

    .. math:: L_D = \tfrac12 E[(D(real, t) - 1)^2] + \tfrac12 E[D(I_t, t)^2]

    Real and synthesized faces pass in one batch: the score of a face does not depend on its neighbours, and spectral
    norm takes one power iteration instead of two.

    Args:
        discriminator: ``discriminator(images, groups)`` gives scores, as :class:`~facemtl.PatchDiscriminator`.
        real_faces: ``(batch, 3, height, width)`` in [-1, 1]; row i is a real face of group i.
        synthesized: Of the same shape; row i is synthesized for group i. No gradient flows back into it.
        groups: ``(batch,)``.
        adversarial_loss: With a method ``discriminator(real_logits, fake_logits)``;
            :class:`~facemtl.LeastSquaresAdversarialLoss` by default.

    Shape:
        - Output: scalars.

    Raises:
        ShapeError: If shapes do not fit.

    References:
        MTLFace (CVPR 2021), section 3.3, Eq. 8.

    Example:
        >>> import torch, facemtl
        >>> faces = torch.rand(4, 3, 112, 112) * 2 - 1
        >>> discriminator = facemtl.PatchDiscriminator(width=8)
        >>> losses = discriminator_losses(discriminator, faces[:2], faces[2:], torch.tensor([0, 6]))
        >>> losses.total.backward()
    """
    _check_shape("discriminator_losses", "synthesized", synthesized, "real_faces", real_faces)
    loss: Any = adversarial_loss if adversarial_loss is not None else LeastSquaresAdversarialLoss()
    scores = discriminator(torch.cat([real_faces, synthesized.detach()]), torch.cat([groups, groups]))
    real, fake = scores.chunk(2)
    return DiscriminatorLosses(loss.discriminator(real, fake), real.detach().mean(), fake.detach().mean())


def generator_losses(
    recogniser: MTLFace,
    discriminator: nn.Module,
    synthesized: Images,
    source_identity: Tensor,
    groups: GroupLabels,
    *,
    adversarial_loss: nn.Module | None = None,
    adversarial_weight: float = 75.0,
    identity_weight: float = 0.002,
    age_weight: float = 10.0,
    identity_reduction: IdentityReduction = "mean",
) -> GeneratorLosses:
    r"""Losses of face age synthesis (FAS), with gradients for what made ``synthesized`` and for nothing else.

    .. math:: L = \lambda_{adv}\,\tfrac12 E[(D(I_t, t) - 1)^2] + \lambda_{id}\,\|X_{id}(I) - X_{id}(I_t)\|^2
                  + \lambda_{age}\,CE(A(X_{age}(I_t)) \cdot W, t)

    Recogniser and discriminator are frozen meanwhile (:func:`~facemtl.training.frozen.frozen`): eval mode, no gradient
    of a weight. The released code lets synthesized faces into the encoder's weight gradients and into the age head's
    batch statistics, and runs the encoder three times; here it runs once on the sources (:func:`encode_sources`),
    without gradients, and once on the synthesized faces, forwards and back to their pixels.

    Args:
        recogniser: The model, or its :func:`~facemtl.training.frozen.frozen_recogniser`.
        discriminator: ``discriminator(images, groups)``, not wrapped for several processes: it does not learn here.
        synthesized: ``(batch, 3, height, width)``, the generator's output, with its graph.
        source_identity: Identity maps of the sources, of :func:`encode_sources`.
        groups: ``(batch,)``, the group that each face was to show.
        adversarial_loss: With a method ``generator(fake_logits)``; least squares by default.
        adversarial_weight: λ of the adversarial term.
        identity_weight: λ of the identity term.
        age_weight: λ of the age term.
        identity_reduction: ``"mean"`` over all elements of the identity maps, or ``"sum"`` over those of a face and
            mean over faces, as Eq. 9 may be read (25,088 times as much at 512×7×7).

    Shape:
        - Output: scalars.

    Raises:
        ValueError: If a group is out of its range (on CPU), or ``identity_reduction`` is another word.
        ShapeError: If shapes do not fit.

    References:
        MTLFace (CVPR 2021), section 3.3, Eqs. 9 to 12; λ of the supplement.

    Example:
        >>> import torch
        >>> model = MTLFace.paper2021(depth=18, width=8, embedding_dimension=32)
        >>> faces, groups = torch.rand(2, 3, 112, 112) * 2 - 1, torch.tensor([0, 6])
        >>> sources = encode_sources(model, faces)
        >>> aged = model.generator(sources.identity, sources.levels, faces, groups)
        >>> generator_losses(model, model.discriminator, aged, sources.identity, groups).total.backward()
        >>> model.encoder.stem.convolution.weight.grad is None
        True
    """
    if identity_reduction not in ("mean", "sum"):
        raise ValueError(f"generator_losses: 'identity_reduction' must be 'mean' or 'sum', got {identity_reduction!r}.")
    num_groups = recogniser.age_groups.num_groups
    check_indices(
        "generator_losses", "groups", groups, batch=len(synthesized), limit=num_groups, limit_name="num_groups"
    )
    loss: Any = adversarial_loss if adversarial_loss is not None else LeastSquaresAdversarialLoss()
    with frozen(recogniser.encoder, recogniser.decomposition, recogniser.age_head, discriminator):
        seen = recogniser.encode(synthesized)
        group_logits = at_least_float32(recogniser.age_head(seen.age).group_logits)
        adversarial = loss.generator(discriminator(synthesized, groups))
    _check_shape("generator_losses", "source_identity", source_identity, "the synthesized faces' maps", seen.identity)
    identity = _squared_distance(seen.identity, source_identity, identity_reduction)
    age = _mean(nn.functional.cross_entropy(group_logits, groups.long(), reduction="none"))
    total = adversarial_weight * adversarial + identity_weight * identity + age_weight * age
    return GeneratorLosses(total, adversarial, identity, age)


def _squared_distance(ours: Tensor, theirs: Tensor, reduction: IdentityReduction) -> Scalar:
    squares = (at_least_float32(ours) - at_least_float32(theirs)).square()
    return squares.sum() / max(squares.numel() if reduction == "mean" else len(squares), 1)


def _check_shape(where: str, name: str, tensor: Tensor, like: str, other: Tensor) -> None:
    if tensor.shape != other.shape:
        raise ShapeError(
            f"{where}: '{name}' must have the shape of {like}, {shape_text(other)}, got {shape_text(tensor)}."
        )


def _mean(losses: Tensor) -> Scalar:
    """Mean over the batch; 0 with zero gradients for an empty one."""
    return losses.sum() / max(len(losses), 1)
