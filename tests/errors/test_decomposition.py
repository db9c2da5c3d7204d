from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from facemtl._core.checks import ShapeError
from facemtl.layers.attention import ChannelAttention
from facemtl.layers.attribute_decomposition import MultiAttributeDecomposition
from facemtl.layers.decomposition import AttentionFeatureDecomposition

both = pytest.mark.parametrize("make", [AttentionFeatureDecomposition, MultiAttributeDecomposition])


class Flat(nn.Module):
    """An attention that forgets the map's axes."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=(2, 3)).sigmoid()


@both
def test_features_must_be_floating_maps_of_the_channels(make: type[nn.Module]) -> None:
    module = make(8)
    name = make.__name__
    with pytest.raises(
        TypeError, match=rf"{name}.forward: 'features' must have a floating-point dtype, got torch.uint8"
    ):
        module(torch.zeros(2, 8, 7, 7, dtype=torch.uint8))
    with pytest.raises(ShapeError, match=r"must have channels = 8 on axis 1, got shape \(2, 16, 7, 7\)"):
        module(torch.zeros(2, 16, 7, 7))
    with pytest.raises(ShapeError, match=r"\(batch, channels, height, width\), got \(2, 8\)"):
        module(torch.zeros(2, 8))
    with pytest.raises(ShapeError, match=r"at least one pixel, got \(2, 8, 0, 0\)"):
        module(torch.zeros(2, 8, 0, 0))
    with pytest.raises(ValueError, match="'channels' must be at least 1, got 0"):
        make(0)


def test_mask_of_a_foreign_attention_must_broadcast() -> None:
    features = torch.zeros(8, 8, 8, 8)  # a (8, 8) mask would broadcast over height and width without a word
    message = r"mask of 'attention' must broadcast over .* = \(8, 8, 8, 8\), got \(8, 8\)"
    with pytest.raises(ShapeError, match=message):
        AttentionFeatureDecomposition(8, attention=Flat())(features)
    with pytest.raises(ShapeError, match=message):
        MultiAttributeDecomposition(8, attributes=["age"], attentions={"age": Flat()})(features)


def test_options_of_the_decomposition() -> None:
    with pytest.raises(ValueError, match="'mask_selects' must be 'age' or 'identity', got 'pose'"):
        AttentionFeatureDecomposition(8, mask_selects="pose")


@pytest.mark.parametrize("names", [(), ("age", "age")])
def test_attributes_must_be_different_names(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"'attributes' must be at least one name, each once, got \("):
        MultiAttributeDecomposition(8, attributes=names)


@pytest.mark.parametrize("name", ["identity", "head.pose", "", "pop", "items", "2d"])
def test_attributes_must_be_names_that_a_state_dict_can_hold(name: str) -> None:
    with pytest.raises(ValueError, match=f"identifiers other than 'identity' .* got '{name}'"):
        MultiAttributeDecomposition(8, attributes=("age", name))


def test_attributes_and_attentions_must_match() -> None:
    with pytest.raises(ValueError, match=r"must be a sequence of names, got 'age'. Pass \('age',\)"):
        MultiAttributeDecomposition(8, attributes="age")
    with pytest.raises(ValueError, match=r"must be for attributes out of \('age',\), got \['pose'\]"):
        MultiAttributeDecomposition(8, attributes=("age",), attentions={"pose": ChannelAttention(8)})
