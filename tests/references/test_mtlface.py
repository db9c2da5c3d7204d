"""The three verbs against the long way round, and other people's backbones in the encoder's place."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from facemtl.layers.age import expected_age
from facemtl.networks.mtlface import MTLFace
from facemtl.networks.projected_backbone import ProjectedBackbone
from tests.cases import randomise
from tests.contract.cases_mtlface import small_mtlface

presets = pytest.mark.parametrize("preset", ["paper2021", "code2021"])


def faces(batch: int = 3, side: int = 32) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(5)) * 2 - 1


def lively(preset: str = "paper2021") -> MTLFace:
    """A small model whose generator does something: its convolutions start near zero."""
    model = small_mtlface(preset)
    for name, parameter in model.generator.named_parameters():
        if parameter.dim() == 4:
            torch.nn.init.kaiming_normal_(parameter)
        elif parameter.dim() == 3:  # a compact bank: pairs of channels by kernel
            torch.nn.init.normal_(parameter, std=0.1)
        assert "weight" in name or parameter.dim() == 1
    return randomise(model)


@presets
def test_verbs_equal_their_parts(preset: str) -> None:
    model = lively(preset).eval()
    images = faces()
    encoded = model.encode(images)
    mirrored = model.encode(images.flip(-1))
    embedding = model.embedding(encoded.identity)
    torch.testing.assert_close(model.embed(images, flip=False), F.normalize(embedding))
    torch.testing.assert_close(model.embed(images), F.normalize(embedding + model.embedding(mirrored.identity)))
    torch.testing.assert_close(model.estimate_age(images), expected_age(model.age_head(encoded.age).age_logits))
    groups = torch.tensor([0, 6, 3])
    aged = model.generator(encoded.identity, encoded.levels, images, groups).clamp(-1, 1)
    torch.testing.assert_close(model.age_to(images, groups), aged)


@presets
def test_several_ages_equal_the_repeated_way(preset: str) -> None:
    model, images = lively(preset).double(), faces().double()
    repeated = torch.stack([model.age_to(images, group) for group in range(7)], dim=1)
    torch.testing.assert_close(model.age_to(images), repeated, rtol=0, atol=1e-10)
    targets = torch.tensor([[6, 0], [1, 1], [2, 5]])
    some = torch.stack([repeated[i, row] for i, row in enumerate(targets)])
    torch.testing.assert_close(model.age_to(images, targets), some, rtol=0, atol=1e-10)
    assert repeated.diff(dim=1).abs().max() > 1e-3  # the target group matters


@presets
def test_several_ages_equal_the_repeated_way_in_float32(preset: str) -> None:
    model, images = small_mtlface(preset), faces()
    repeated = torch.stack([model.age_to(images, group) for group in range(7)], dim=1)
    torch.testing.assert_close(model.age_to(images), repeated, rtol=0, atol=1e-5)


def test_verbs_run_in_eval_mode_and_leave_every_mode_and_statistic() -> None:
    model = small_mtlface().train()
    model.age_head.eval()
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    first = model.embed(faces())
    torch.testing.assert_close(model.embed(faces(1)), first[:1], rtol=1e-4, atol=1e-5)
    model.age_to(faces(), 2)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not first.requires_grad


def test_embeddings_have_unit_length_and_do_not_mind_a_mirror() -> None:
    model = randomise(small_mtlface())
    embedding = model.embed(faces())
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(model.embed(faces().flip(-1)), embedding, rtol=1e-4, atol=1e-5)


def test_the_adversary_pushes_the_identity_map_the_other_way() -> None:
    model = small_mtlface().eval()
    images = faces()

    def encoder_gradient(reverse: bool) -> torch.Tensor:
        model.zero_grad()
        adversary = model(images).adversary if reverse else model.adversary(model.encode(images).identity)
        adversary.age_logits.square().sum().backward()
        return next(model.encoder.parameters()).grad.clone()

    torch.testing.assert_close(encoder_gradient(True), -encoder_gradient(False))


@presets
def test_inference_copy_gives_the_same(preset: str) -> None:
    model, images = lively(preset).double(), faces().double()
    fast = model.for_inference()
    torch.testing.assert_close(fast.embed(images), model.embed(images), rtol=0, atol=1e-10)
    torch.testing.assert_close(fast.estimate_age(images), model.estimate_age(images), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(fast.age_to(images, 3), model.age_to(images, 3), rtol=0, atol=1e-9)
    recogniser = (fast.encoder, fast.decomposition, fast.embedding, fast.age_head)
    assert not [name for part in recogniser for name, _ in part.named_buffers()]  # no norm is left
    assert fast.discriminator is None
    assert sum(p.numel() for p in fast.parameters()) < sum(p.numel() for p in model.parameters())
    cast = copy.deepcopy(fast).to(torch.bfloat16)
    assert F.cosine_similarity(cast.embed(images), model.embed(images)).min() > 0.995
    assert cast.embed(images).dtype == torch.float32
    assert cast.age_to(images.float(), 1).dtype == torch.float32


def test_a_timm_backbone_drops_in() -> None:
    timm = pytest.importorskip("timm")
    backbone = timm.create_model("resnet18", features_only=True, out_indices=(0, 1, 2, 3))
    check_foreign(backbone, backbone.feature_info.channels())


def test_a_torchvision_backbone_drops_in() -> None:
    models = pytest.importorskip("torchvision.models")
    from torchvision.models.feature_extraction import create_feature_extractor

    backbone = create_feature_extractor(models.resnet18(), ["relu", "layer1", "layer2", "layer3"])
    check_foreign(backbone, (64, 64, 128, 256))


def check_foreign(backbone: torch.nn.Module, channels: tuple[int, ...]) -> None:
    encoder = ProjectedBackbone(backbone, channels, channels=32, level_channels=(4, 8, 16))
    model = MTLFace.paper2021(encoder=encoder, width=4, image_size=64, embedding_dimension=16)
    images = faces(2, 64)
    estimates = model(images)
    (estimates.embedding.sum() + estimates.age.age_logits.sum()).backward()
    assert all(p.grad is not None for p in encoder.projections[3].parameters())
    assert model.age_to(images).shape == (2, 7, 3, 64, 64)
    assert model.embed(images).shape == (2, 16)
    assert model.for_inference().embed(images).isfinite().all()


def test_parts_can_be_left_out() -> None:
    whole = small_mtlface()
    recogniser = MTLFace(whole.encoder, whole.decomposition, whole.embedding, whole.age_head)
    assert torch.equal(recogniser.embed(faces()), whole.embed(faces()))
    with pytest.raises(ValueError, match="MTLFace.age_to: this model has no generator"):
        recogniser.age_to(faces(), 3)
    with pytest.raises(ValueError, match="MTLFace.forward: this model has no adversary"):
        recogniser(faces())
