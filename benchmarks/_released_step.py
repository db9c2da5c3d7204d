"""MTLFace's training steps in the arrangement of the released code, written down plainly, for benchmarks/step.py.

The identity conditional module runs the whole bank and masks it, the margin head holds the batch × identities matrix,
real and synthesized faces pass the discriminator one after the other, and gradients go wherever autograd takes them:
through the encoder, the age head and the discriminator into weights that this turn does not train. The released encoder
runs three times in a step of synthesis: on the sources for the generator, on the sources for the identity term, and on
the synthesized faces. ``encodings=2`` is the lean form, which keeps the first one's identity map.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks._step_faces import StepFaces
from facemtl.layers.bank_state import to_dense_state
from facemtl.losses.age import AgeEstimationLoss
from facemtl.networks.mtlface import MTLFace
from facemtl.training.frozen import recognition_part
from facemtl.training.parameter_groups import weight_decay_groups
from tests.references.masked_conditional import MaskedConditionalModule


def masked_copy(model: MTLFace, fresh: MTLFace) -> MTLFace:
    """Fill ``fresh``, of the same shape, with the weights of ``model`` and give it a masked identity module."""
    fresh.load_state_dict(model.state_dict())
    condition = model.generator.condition
    masked = MaskedConditionalModule(condition.channels, unit=condition.layout.unit)
    masked.load_state_dict(to_dense_state(condition))
    fresh.generator.condition = masked.to(next(model.parameters()).device)
    return fresh


class DenseCosFace(nn.Module):
    """CosFace with one-hot labels over the whole matrix of logits."""

    def __init__(self, dimension: int, identities: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(identities, dimension))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosines = F.linear(F.normalize(embeddings), F.normalize(self.weight))
        one_hot = torch.zeros_like(cosines).scatter_(1, labels.unsqueeze(1), 1.0)
        return F.cross_entropy(64.0 * (cosines - 0.35 * one_hot), labels)


class ReleasedStep:
    """One step: recognition if there is a head, then synthesis.

    Args:
        model: Of :func:`masked_copy`.
        faces: The batch.
        head: Margin head of a joint step.
        encodings: How often the encoder runs in synthesis, 3 or 2.
    """

    def __init__(self, model: MTLFace, faces: StepFaces, *, head: nn.Module | None = None, encodings: int = 3) -> None:
        self.model, self.faces, self.head, self.encodings = model, faces, head, encodings
        self.age_loss = AgeEstimationLoss()
        recognition = weight_decay_groups(recognition_part(model), weight_decay=5e-4)
        heads = [{"params": list(head.parameters()), "weight_decay": 5e-4}] if head is not None else []
        self.recognition = torch.optim.SGD([*recognition, *heads], lr=1e-3, momentum=0.9)
        self.generator = torch.optim.Adam(model.generator.parameters(), lr=1e-6, betas=(0.9, 0.99))
        self.discriminator = torch.optim.Adam(model.discriminator.parameters(), lr=1e-6, betas=(0.9, 0.99))

    def __call__(self) -> Tensor:
        """Take the step and return the identity term of the synthesis."""
        self.model.train()
        if self.head is not None:
            self.recognise(self.head)
        return self.synthesise()

    def recognise(self, head: nn.Module) -> None:
        faces, model = self.faces, self.model
        self.recognition.zero_grad()
        estimates = model(faces.images)
        loss = head(estimates.embedding, faces.identities)
        loss = loss + 0.001 * self.age_loss(*estimates.age, faces.ages)
        loss = loss + 0.002 * self.age_loss(*estimates.adversary, faces.ages)
        loss.backward()
        self.recognition.step()

    def synthesise(self) -> Tensor:
        faces, model = self.faces, self.model
        for part in (model.encoder, model.decomposition):
            part.eval()
        with torch.no_grad():
            sources = model.encode(faces.images)
        aged = model.generator(sources.identity, sources.levels, faces.images, faces.groups)

        self.discriminator.zero_grad()
        real = model.discriminator(faces.real, faces.groups)
        fake = model.discriminator(aged.detach(), faces.groups)
        (0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()).backward()
        self.discriminator.step()

        for optimizer in (self.generator, self.recognition):
            optimizer.zero_grad()
        adversarial = 0.5 * (model.discriminator(aged, faces.groups) - 1).square().mean()
        seen = model.encode(aged)
        target = sources.identity
        if self.encodings == 3:
            with torch.no_grad():
                target = model.encode(faces.images).identity
        identity = (seen.identity - target).square().mean()
        age = F.cross_entropy(model.age_head(seen.age).group_logits, faces.groups)
        (75.0 * adversarial + 0.002 * identity + 10.0 * age).backward()
        self.generator.step()
        return identity.detach()

    def modules(self) -> Iterable[nn.Module]:
        """Everything that may hold gradients."""
        return [self.model] if self.head is None else [self.model, self.head]
