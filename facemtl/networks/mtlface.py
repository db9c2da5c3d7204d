"""MTLFace: one encoder that recognises, estimates the age and shows the face at another age."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol, Unpack, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facemtl._core.checks import ShapeError, check_indices, shape_text
from facemtl._core.pixels import check_model_input
from facemtl._core.precision import at_least_float32
from facemtl._core.shapes import Images
from facemtl.heads.age import AgePrediction
from facemtl.layers.age import AgeGroups, expected_age
from facemtl.layers.evaluating import evaluating
from facemtl.layers.inference import fold_batch_norms
from facemtl.layers.reversal import GradientReversal
from facemtl.networks.mtlface_presets import MTLFaceOptions, Preset, build_parts, options_of, recipe_of
from facemtl.networks.saved_model import SavedModelError, read_model, write_model


class EncodedFaces(NamedTuple):
    """What the encoder makes of faces: the two halves of the final map, and the levels that the generator reads."""

    identity: Tensor
    age: Tensor
    levels: tuple[Tensor, ...]


class FaceEstimates(NamedTuple):
    """What the recognition losses read: embedding, age, and the adversary's age from the reversed identity map."""

    embedding: Tensor
    age: AgePrediction
    adversary: AgePrediction


class Pyramid(Protocol):
    """What an encoder returns: its final map at 1/16 of the image and maps at 1/2, 1/4 and 1/8 as the last levels."""

    @property
    def map(self) -> Tensor: ...  # noqa: D102

    @property
    def levels(self) -> tuple[Tensor, ...]: ...  # noqa: D102


class MTLFace(nn.Module):
    """The whole of MTLFace, put together from parts of which each can be the caller's own.

    The encoder's final map is decomposed into an identity and an age map. The identity map gives the embedding, is
    cleaned of age by an adversary behind gradient reversal, and is the ground on which the generator paints the face at
    another age.

    Three verbs are for users: :meth:`embed`, :meth:`estimate_age` and :meth:`age_to`. They run without gradients and in
    eval mode, whatever mode the model is in, and cast the images to the model's dtype. For training, :meth:`forward`
    gives what the recognition losses read, and ``model.generator`` and ``model.discriminator`` what the synthesis
    losses read.

    The margin head is not a part: it belongs to the training set, not to the model.

    Args:
        encoder: ``encoder(images)`` has ``.map`` and ``.levels``, as :class:`~facemtl.IRBackbone` and
            :class:`~facemtl.ProjectedBackbone` return them.
        decomposition: ``decomposition(map)`` has ``.identity`` and ``.age``.
        embedding: Identity map to ``(batch, dimension)``.
        age_head: Age map to :class:`~facemtl.AgePrediction`.
        adversary: Identity map to :class:`~facemtl.AgePrediction`; ``None`` for a model that is not trained further.
        generator: As :class:`~facemtl.AgingGenerator`; ``None`` for a model that only recognises.
        discriminator: As :class:`~facemtl.PatchDiscriminator`, or ``None``.
        age_groups: The groups that ``age_to`` counts by.

    Shape:
        - Images: ``(batch, 3, height, width)`` RGB in [-1, 1], aligned on five landmarks; 112×112 in the presets.

    Raises:
        ShapeError: If images have the wrong shape.
        TypeError: If images are not floating point (see :func:`~facemtl.to_model_input`).
        ValueError: By the verbs, if pixels are not finite or leave [-1, 1].

    References:
        Huang, Zhang and Shan, "When Age-Invariant Face Recognition Meets Face Age Synthesis: A Multi-Task Learning
        Framework", CVPR 2021, section 3; arXiv 2103.01520.

    Example:
        >>> import torch
        >>> model = MTLFace.paper2021(depth=18, width=8, embedding_dimension=32)
        >>> faces = torch.rand(2, 3, 112, 112) * 2 - 1
        >>> model.embed(faces).shape, model.estimate_age(faces).shape, model.age_to(faces, 6).shape
        (torch.Size([2, 32]), torch.Size([2]), torch.Size([2, 3, 112, 112]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        decomposition: nn.Module,
        embedding: nn.Module,
        age_head: nn.Module,
        *,
        adversary: nn.Module | None = None,
        generator: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        age_groups: AgeGroups | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decomposition = decomposition
        self.embedding = embedding
        self.age_head = age_head
        self.reversal = GradientReversal()
        self.adversary = adversary
        self.generator = generator
        self.discriminator = discriminator
        self.age_groups = age_groups or AgeGroups()
        self._recipe: dict[str, Any] | None = None

    @classmethod
    def paper2021(cls, **options: Unpack[MTLFaceOptions]) -> MTLFace:
        """Build the model of the CVPR 2021 paper and its supplement; options as in :class:`~facemtl.MTLFaceOptions`."""
        return cls._built("paper2021", options)

    @classmethod
    def code2021(cls, **options: Unpack[MTLFaceOptions]) -> MTLFace:
        """Build the model of the authors' released training code; options as in :class:`~facemtl.MTLFaceOptions`."""
        return cls._built("code2021", options)

    @classmethod
    def _built(cls, preset: Preset, options: MTLFaceOptions) -> MTLFace:
        model = cls(**build_parts(preset, options))
        model._recipe = recipe_of(preset, options)
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model into a folder: ``model.safetensors``, and ``config.json`` from which it is built again.

        Raises:
            ValueError: If the model was not built by a preset of numbers alone: the caller's own parts cannot be
                written down. Save ``model.state_dict()`` then.
        """
        if self._recipe is None:
            raise ValueError(
                "MTLFace.save_pretrained: only a model of MTLFace.paper2021(...) or code2021(...) without parts of "
                "your own can be built again from a config. Save model.state_dict() and keep the code that builds it."
            )
        write_model(folder, {"model": "MTLFace", **self._recipe}, self.state_dict())

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: torch.device | str | None = None) -> MTLFace:
        """Build the model that :meth:`save_pretrained` wrote into a folder, in eval mode.

        Args:
            folder: With ``config.json`` and ``model.safetensors``; nothing is downloaded and no code in it is run.
            device: Where the parameters go; by default the CPU.

        Raises:
            facemtl.networks.saved_model.SavedModelError: If a file is missing, damaged or of another model.
        """
        where = "MTLFace.from_pretrained"
        config, weights = read_model(where, folder)
        preset, options = options_of(where, folder, config)
        model = cls._built(preset, options)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise SavedModelError(f"{where}: the weights in {str(folder)!r} do not fit its config: {error}") from error
        return model.to(device).eval()

    def encode(self, images: Images) -> EncodedFaces:
        """Return identity map, age map and encoder levels of ``images``; differentiable."""
        pyramid: Pyramid = self.encoder(images)
        features = self.decomposition(pyramid.map)
        return EncodedFaces(features.identity, features.age, tuple(pyramid.levels))

    def forward(self, images: Images) -> FaceEstimates:
        """Return embedding, age prediction and the adversary's prediction, for the recognition losses.

        The encoder runs once. Gradients of the adversary's prediction are reversed before the identity map.
        """
        adversary = _present(self.adversary, "forward", "adversary")
        faces = self.encode(images)
        return FaceEstimates(
            self.embedding(faces.identity), self.age_head(faces.age), adversary(self.reversal(faces.identity))
        )

    @torch.no_grad()
    def embed(self, images: Images, *, flip: bool = True) -> Tensor:
        """Return unit embeddings ``(batch, dimension)``: the dot product of two is their cosine similarity.

        Args:
            images: ``(batch, 3, height, width)`` RGB in [-1, 1].
            flip: Add the embedding of the mirrored face before normalising, as verification protocols do; doubles the
                cost.
        """
        images = self._model_input("embed", images)
        with evaluating(self):
            embedding = self.embedding(self.encode(images).identity)
            if flip:
                embedding = embedding + self.embedding(self.encode(images.flip(-1)).identity)
        return F.normalize(at_least_float32(embedding), dim=1)

    @torch.no_grad()
    def estimate_age(self, images: Images) -> Tensor:
        """Return the estimated ages ``(batch,)`` in years, the expectation of the age distribution."""
        images = self._model_input("estimate_age", images)
        with evaluating(self):
            prediction: AgePrediction = self.age_head(self.encode(images).age)
        return expected_age(prediction.age_logits)

    @torch.no_grad()
    def age_to(self, images: Images, groups: Tensor | int | None = None) -> Tensor:
        """Return the faces at other ages; each face is encoded once, however many ages are asked for.

        Args:
            images: ``(batch, 3, height, width)`` RGB in [-1, 1].
            groups: One age group for all faces (a number), one each (``(batch,)``), several each
                (``(batch, targets)``), or every group (``None``).

        Returns:
            ``(batch, 3, height, width)``, or ``(batch, targets, 3, height, width)`` where each face has several
            targets; RGB in [-1, 1].
        """
        generator = cast(Any, _present(self.generator, "age_to", "generator"))
        inputs = self._model_input("age_to", images)
        targets = self._targets(images, groups)
        with evaluating(self):
            faces = self.encode(inputs)
            if targets is None:
                aged = generator.all_groups(faces.identity, faces.levels, inputs)
            elif targets.dim() == 1:
                aged = generator(faces.identity, faces.levels, inputs, targets)
            else:
                aged = generator.many(faces.identity, faces.levels, inputs, targets)
        return cast(Tensor, aged.to(images.dtype).clamp(-1.0, 1.0))

    def for_inference(self) -> MTLFace:
        """Return a copy for the three verbs: eval mode, batch norms folded into convolutions, training parts dropped.

        The copy has no adversary and no discriminator. Its outputs are those of the model up to rounding. Cast it for
        more speed: ``model.for_inference().to(torch.bfloat16, memory_format=torch.channels_last)``.
        """
        return type(self)(
            fold_batch_norms(self.encoder),
            fold_batch_norms(self.decomposition),
            fold_batch_norms(self.embedding),
            fold_batch_norms(self.age_head),
            generator=None if self.generator is None else fold_batch_norms(self.generator),
            age_groups=self.age_groups,
        ).eval()

    def _model_input(self, verb: str, images: Tensor) -> Tensor:
        check_model_input(f"MTLFace.{verb}", images)
        parameter = next(self.encoder.parameters(), None)
        return images if parameter is None else images.to(parameter.dtype)

    def _targets(self, images: Tensor, groups: Tensor | int | None) -> Tensor | None:
        if groups is None:
            return None
        batch = images.shape[0]
        if isinstance(groups, int):
            groups = torch.full((batch,), groups, dtype=torch.long, device=images.device)
        if not isinstance(groups, Tensor):
            raise TypeError(f"MTLFace.age_to: 'groups' must be a number, a tensor or None, got {groups!r}.")
        if groups.dim() not in (1, 2) or groups.shape[0] != batch:
            raise ShapeError(
                f"MTLFace.age_to: 'groups' must have shape ({batch},) or ({batch}, targets), got {shape_text(groups)}."
            )
        flat = groups.flatten()
        limit = self.age_groups.num_groups
        check_indices(
            "MTLFace.age_to", "groups", flat, batch=flat.shape[0], limit=limit, limit_name="age_groups.num_groups"
        )
        return groups


def _present(part: nn.Module | None, verb: str, name: str) -> nn.Module:
    if part is None:
        raise ValueError(f"MTLFace.{verb}: this model has no {name}. Build it with {name}=... to use {verb}.")
    return part
