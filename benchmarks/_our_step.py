"""MTLFace's training steps as facemtl takes them, for benchmarks/step.py."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from benchmarks._step_faces import StepFaces
from facemtl.networks.mtlface import MTLFace
from facemtl.training.encoding_store import EncodingStore
from facemtl.training.frozen import recognition_part
from facemtl.training.parameter_groups import weight_decay_groups
from facemtl.training.steps import discriminator_losses, encode_sources, generator_losses, recognition_losses


class OurStep:
    """One step as examples/mtlface_lcaf.py takes it: recognition if there is a head, then synthesis.

    Args:
        model: All of it.
        faces: The batch.
        head: Margin head of a joint step.
        recogniser: Frozen copy that sees the faces in place of ``model``.
        store: Encodings of the sources.
        low_precision: Run forward passes under bfloat16 autocast.
        fused: Let each optimizer update all weights in one kernel.
    """

    def __init__(
        self,
        model: MTLFace,
        faces: StepFaces,
        *,
        head: nn.Module | None = None,
        recogniser: MTLFace | None = None,
        store: EncodingStore | None = None,
        low_precision: bool = False,
        fused: bool = False,
    ) -> None:
        self.model, self.faces, self.head, self.store = model, faces, head, store
        self.recogniser, self.low_precision = recogniser or model, low_precision
        self.network = recognition_part(model)
        groups = weight_decay_groups(self.network, weight_decay=5e-4)
        heads = [{"params": list(head.parameters()), "weight_decay": 5e-4}] if head is not None else []
        self.recognition = torch.optim.SGD([*groups, *heads], lr=1e-3, momentum=0.9, fused=fused)
        adam = functools.partial(torch.optim.Adam, lr=1e-6, betas=(0.9, 0.99), fused=fused)
        self.generator, self.discriminator = adam(model.generator.parameters()), adam(model.discriminator.parameters())
        self.none_flipped = torch.zeros_like(faces.groups, dtype=torch.bool)

    def __call__(self) -> Tensor:
        """Take the step and return the identity term of the synthesis."""
        self.model.train()
        if self.head is not None:
            self.recognise(self.head)
        return self.synthesise()

    def recognise(self, head: nn.Module) -> None:
        """Learn identities and ages."""
        faces = self.faces
        with self.autocast():
            losses = recognition_losses(self.network, head, faces.images, faces.identities, faces.ages)
        losses.total.backward()
        self.recognition.step()
        self.recognition.zero_grad()

    def synthesise(self) -> Tensor:
        """Take the discriminator's turn, then the generator's."""
        faces, model = self.faces, self.model
        self.discriminator.zero_grad()
        with self.autocast():
            if self.store is not None:
                sources = self.store.encodings(faces.indices, self.none_flipped)
            else:
                sources = encode_sources(self.recogniser, faces.images)
            aged = model.generator(sources.identity, sources.levels, faces.images, faces.groups)
            critic = discriminator_losses(model.discriminator, faces.real, aged, faces.groups)
        critic.total.backward()
        self.discriminator.step()

        self.generator.zero_grad()
        with self.autocast():
            losses = generator_losses(self.recogniser, model.discriminator, aged, sources.identity, faces.groups)
        losses.total.backward()
        self.generator.step()
        return losses.identity.detach()

    def autocast(self) -> AbstractContextManager[object]:
        """Context of a forward pass."""
        if self.low_precision:
            return torch.autocast(self.faces.images.device.type, torch.bfloat16)
        return nullcontext()

    def modules(self) -> Iterable[nn.Module]:
        """Everything that may hold gradients."""
        return [self.model] if self.head is None else [self.model, self.head]
