"""Adversarial losses: what a discriminator minimises, and what its generator does."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from facemtl._core.checks import check_floating
from facemtl._core.precision import at_least_float32
from facemtl._core.shapes import Scalar


class LeastSquaresAdversarialLoss(nn.Module):
    r"""Least-squares adversarial loss (LSGAN): MTLFace's.

    .. math:: L_D &= \tfrac12 E[(D(real) - 1)^2] + \tfrac12 E[D(fake)^2] \\
              L_G &= \tfrac12 E[(D(fake) - 1)^2]

    The expectation runs over samples and patches alike. Call the module, or :meth:`generator`, in the generator's step
    and :meth:`discriminator` in the discriminator's (with the fakes detached). Logits of bfloat16 or float16 are taken
    to float32 first, and an empty batch gives 0.0 with zero gradients.

    Shape:
        - Logits: any shape; those of real and fake images need not agree.
        - Output: scalar.

    Raises:
        TypeError: If logits are not floating point.

    References:
        Mao et al., "Least Squares Generative Adversarial Networks", ICCV 2017; MTLFace (CVPR 2021), Eqs. 8 and 9.

    Example:
        >>> import torch
        >>> loss = LeastSquaresAdversarialLoss()
        >>> real_logits, fake_logits = torch.ones(8, 1, 7, 7), torch.zeros(8, 1, 7, 7)
        >>> loss.discriminator(real_logits, fake_logits), loss.generator(fake_logits)
        (tensor(0.), tensor(0.5000))
    """

    def forward(self, fake_logits: Tensor) -> Scalar:
        """Return the generator's loss, as :meth:`generator`."""
        return self.generator(fake_logits)

    def generator(self, fake_logits: Tensor) -> Scalar:
        """Return ½E[(D(fake) − 1)²]: low where the discriminator takes fakes for real."""
        fake = _checked(self, "generator", "fake_logits", fake_logits)
        return 0.5 * _mean((fake - 1.0).square())

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Scalar:
        """Return ½E[(D(real) − 1)²] + ½E[D(fake)²]: low where the discriminator tells both apart."""
        real = _checked(self, "discriminator", "real_logits", real_logits)
        fake = _checked(self, "discriminator", "fake_logits", fake_logits)
        return 0.5 * _mean((real - 1.0).square()) + 0.5 * _mean(fake.square())


class HingeAdversarialLoss(nn.Module):
    r"""Hinge adversarial loss: the discriminator stops at a margin of 1 on either side.

    .. math:: L_D &= E[\max(0, 1 - D(real))] + E[\max(0, 1 + D(fake))] \\
              L_G &= -E[D(fake)]

    An alternative to MTLFace's :class:`LeastSquaresAdversarialLoss`, with the same methods, shapes and errors.
    The generator's loss is not bounded below, and its value says little about quality.

    References:
        Lim and Ye, "Geometric GAN", arXiv 1705.02894; Miyato et al., "Spectral Normalization for Generative
        Adversarial Networks", ICLR 2018.

    Example:
        >>> import torch
        >>> loss = HingeAdversarialLoss()
        >>> loss.discriminator(torch.tensor([2.0, 0.5]), torch.tensor([-1.0])), loss.generator(torch.tensor([-1.0]))
        (tensor(0.2500), tensor(1.))
    """

    def forward(self, fake_logits: Tensor) -> Scalar:
        """Return the generator's loss, as :meth:`generator`."""
        return self.generator(fake_logits)

    def generator(self, fake_logits: Tensor) -> Scalar:
        """Return −E[D(fake)]."""
        return -_mean(_checked(self, "generator", "fake_logits", fake_logits))

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Scalar:
        """Return E[max(0, 1 − D(real))] + E[max(0, 1 + D(fake))]."""
        real = _checked(self, "discriminator", "real_logits", real_logits)
        fake = _checked(self, "discriminator", "fake_logits", fake_logits)
        return _mean(F.relu(1.0 - real)) + _mean(F.relu(1.0 + fake))


class NonSaturatingAdversarialLoss(nn.Module):
    r"""Logistic adversarial loss in its non-saturating form: cross-entropy, with flipped labels for the generator.

    .. math:: L_D &= -E[\log \sigma(D(real))] - E[\log(1 - \sigma(D(fake)))] \\
              L_G &= -E[\log \sigma(D(fake))]

    The generator's gradient does not vanish where the discriminator is sure of the fakes, unlike that of the minimax
    form :math:`E[\log(1 - \sigma(D(fake)))]`. An alternative to MTLFace's :class:`LeastSquaresAdversarialLoss`, with
    the same methods, shapes and errors; finite and exact for logits of any size.

    References:
        Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, section 3.

    Example:
        >>> import torch
        >>> loss = NonSaturatingAdversarialLoss()
        >>> logits = torch.zeros(4, 1, 5, 5)
        >>> loss.discriminator(logits, logits), loss.generator(logits)
        (tensor(1.3863), tensor(0.6931))
    """

    def forward(self, fake_logits: Tensor) -> Scalar:
        """Return the generator's loss, as :meth:`generator`."""
        return self.generator(fake_logits)

    def generator(self, fake_logits: Tensor) -> Scalar:
        """Return −E[log σ(D(fake))]."""
        return -_mean(F.logsigmoid(_checked(self, "generator", "fake_logits", fake_logits)))

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Scalar:
        """Return −E[log σ(D(real))] − E[log(1 − σ(D(fake)))]."""
        real = _checked(self, "discriminator", "real_logits", real_logits)
        fake = _checked(self, "discriminator", "fake_logits", fake_logits)
        return -_mean(F.logsigmoid(real)) - _mean(F.logsigmoid(-fake))


def _checked(loss: nn.Module, method: str, name: str, logits: Tensor) -> Tensor:
    """Return ``logits`` in float32 at least."""
    check_floating(f"{type(loss).__name__}.{method}", name, logits, advice="Pass the discriminator's scores.")
    return at_least_float32(logits)


def _mean(values: Tensor) -> Tensor:
    """Mean over all elements; 0 with zero gradients for none."""
    return values.sum() / max(values.numel(), 1)
