from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from facemtl.layers.squeeze_excitation import SqueezeExcitation
from facemtl.networks.iresnet import UNITS_PER_STAGE, IRBackbone, IRResNet
from facemtl.networks.released.encoder import (
    BACKBONE_2021_RULES,
    EMBEDDING_2021_RULES,
    ENCODER_2021,
    ENCODER_2022,
    under,
)
from facemtl.networks.released.insightface import INSIGHTFACE_IRESNET
from facemtl.networks.released.renaming import ReleasedFormat, ReleasedWeightsError, load_released
from tests.cases import randomise
from tests.parity import ParityCase

State = dict[str, Tensor]


def test_levels_equal_the_authors_encoder(parity_folder: Path) -> None:
    case = ParityCase(parity_folder, "aifr_ir50")
    backbone = IRBackbone(50).eval()
    rest = ReleasedFormat("the encoder alone", BACKBONE_2021_RULES, ignored=(r"output_layer\..+", r"fsm\..+"))
    load_released(backbone, case.state(), rest)
    with torch.inference_mode():
        features = backbone(case.input("x"))
        folded = backbone.for_inference()(case.input("x"))
    for number, (level, same) in enumerate(zip(features.levels, folded.levels, strict=True), start=1):
        case.check(f"level{number}", level)
        case.check(f"level{number}", same)


def test_the_whole_released_encoder_loads(parity_folder: Path) -> None:
    state = {k: v for k, v in ParityCase(parity_folder, "aifr_ir50").state().items() if not k.startswith("fsm.")}
    with torch.device("meta"):
        wanted = IRResNet(50).state_dict()
    renamed, unknown = ENCODER_2021.rename(state)
    assert not unknown
    assert {key: value.shape for key, value in renamed.items()} == {key: value.shape for key, value in wanted.items()}


def random_state(shapes: dict[str, tuple[int, ...]]) -> State:
    generator = torch.Generator().manual_seed(5)
    return {
        key: torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5
        if key.endswith("running_var")
        else 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)
        for key, shape in shapes.items()
    }


def insightface_shapes(depth: int, width: int, cells: int, dimension: int) -> dict[str, tuple[int, ...]]:
    """Keys and shapes as insightface's iresnet saves them, without the step counters."""

    def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}

    shapes = {"conv1.weight": (width, 3, 3, 3), "prelu.weight": (width,), **norm("bn1", width)}
    channels = width
    for stage, units in enumerate(UNITS_PER_STAGE[depth]):
        target = width * 2**stage
        for unit in range(units):
            name = f"layer{stage + 1}.{unit}"
            shapes |= norm(f"{name}.bn1", channels) | norm(f"{name}.bn2", target) | norm(f"{name}.bn3", target)
            shapes[f"{name}.conv1.weight"] = (target, channels, 3, 3)
            shapes[f"{name}.conv2.weight"] = (target, target, 3, 3)
            shapes[f"{name}.prelu.weight"] = (target,)
            if unit == 0:
                shapes[f"{name}.downsample.0.weight"] = (target, channels, 1, 1)
                shapes |= norm(f"{name}.downsample.1", target)
            channels = target
    shapes |= norm("bn2", channels) | norm("features", dimension)
    return shapes | {"fc.weight": (dimension, channels * cells), "fc.bias": (dimension,)}


def insightface_forward(state: State, images: Tensor, depth: int) -> Tensor:
    """The published network as plain functions of a state dict."""

    def norm(x: Tensor, name: str) -> Tensor:
        parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        mean, variance, weight, bias = (part.reshape(-1, *[1] * (x.dim() - 2)) for part in parts)
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    x = F.prelu(norm(F.conv2d(images, state["conv1.weight"], padding=1), "bn1"), state["prelu.weight"])
    for stage, units in enumerate(UNITS_PER_STAGE[depth]):
        for unit in range(units):
            name, stride = f"layer{stage + 1}.{unit}", 1 if unit else 2
            y = F.conv2d(norm(x, f"{name}.bn1"), state[f"{name}.conv1.weight"], padding=1)
            y = F.prelu(norm(y, f"{name}.bn2"), state[f"{name}.prelu.weight"])
            y = norm(F.conv2d(y, state[f"{name}.conv2.weight"], padding=1, stride=stride), f"{name}.bn3")
            if unit == 0:
                x = norm(F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=2), f"{name}.downsample.1")
            x = x + y
    x = norm(x, "bn2").flatten(1) @ state["fc.weight"].T + state["fc.bias"]
    return norm(x, "features")


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("counters", [True, False])
def test_insightface_weights_give_insightface_embeddings(prefix: str, counters: bool) -> None:
    state = random_state(insightface_shapes(34, 3, 2 * 3, 7))
    network = IRResNet(34, width=3, image_size=(32, 48), embedding_dimension=7, shortcut="projection").double().eval()
    saved = {prefix + key: value for key, value in state.items()}
    if counters:
        norms = [key.removesuffix("running_var") for key in saved if key.endswith("running_var")]
        saved |= {key + "num_batches_tracked": torch.tensor(9) for key in norms}
    load_released(network, saved, INSIGHTFACE_IRESNET)
    assert int(network.backbone.stem.norm.num_batches_tracked) == (9 if counters else 0)
    images = torch.randn(2, 3, 32, 48, dtype=torch.float64)
    want = insightface_forward(state, images, 34)
    torch.testing.assert_close(network(images).embedding, want, rtol=1e-9, atol=1e-9 * float(want.abs().max()))


def test_released_keys_load_with_excitation_and_from_the_journal_package() -> None:
    network = IRResNet(18, width=4, image_size=16, embedding_dimension=4, squeeze_excitation=True)
    inverse = {"norm1": "0", "conv1": "1", "norm2": "2", "activation": "3", "conv2": "4", "norm3": "5"}
    released: State = {}
    for key, value in randomise(network).state_dict().items():
        room, _, rest = key.partition(".")
        part, _, rest = rest.partition(".")
        if room == "embedding":
            new = f"output_layer.{ {'input_norm': 0, 'linear': 3, 'output_norm': 4}[part] }.{rest}"
        elif part == "stem":
            layer, _, rest = rest.partition(".")
            new = f"input_layer.{ {'convolution': 0, 'norm': 1, 'activation': 2}[layer] }.{rest}"
        else:
            unit, layer, rest = rest.split(".", 2)
            where = f"block{part[-1]}.{unit}"
            if layer == "shortcut":
                new = f"{where}.shortcut_layer." + rest.replace("convolution", "0").replace("norm", "1")
            elif layer == "excitation":
                new = f"{where}.res_layer.6." + rest.replace("squeeze", "fc1").replace("excite", "fc2")
            else:
                new = f"{where}.res_layer.{inverse[layer]}.{rest}"
        released[new] = value.clone()
    rest = ("encoder.fsm.spatial.0.weight", "encoder.aging1.conv1.0.bias", "decoder.latent_avg", "age_estimator.x.y")
    package = {f"encoder.{key}": value for key, value in released.items()} | dict.fromkeys(rest, torch.ones(1))
    for source, state in ((ENCODER_2021, released), (ENCODER_2022, package)):
        other = IRResNet(18, width=4, image_size=16, embedding_dimension=4, squeeze_excitation=True)
        load_released(other, state, source)
        assert all(torch.equal(value, network.state_dict()[key]) for key, value in other.state_dict().items())
    with pytest.raises(ReleasedWeightsError, match=r"unknown: encoder\.block5\.0\.res_layer\.0\.weight"):
        load_released(other, package | {"encoder.block5.0.res_layer.0.weight": torch.ones(1)}, ENCODER_2022)


def test_the_wrong_shortcut_style_is_named_key_by_key() -> None:
    state = random_state(insightface_shapes(18, 2, 1, 4))
    network = IRResNet(18, width=2, image_size=16, embedding_dimension=4)
    with pytest.raises(ReleasedWeightsError, match=r"unknown: backbone\.stage1\.0\.shortcut\.convolution\.weight"):
        load_released(network, state, INSIGHTFACE_IRESNET)


def test_rules_can_be_put_under_another_prefix() -> None:
    combined = ReleasedFormat("a whole", (*under("a.", BACKBONE_2021_RULES), *under("b.c.", EMBEDDING_2021_RULES)))
    renamed, unknown = combined.rename(dict.fromkeys(["input_layer.0.weight", "output_layer.3.bias"], torch.ones(1)))
    assert (sorted(renamed), unknown) == (["a.stem.convolution.weight", "b.c.linear.bias"], [])


DOCUMENTED = {18: (24.0, 5.2), 34: (34.1, 8.9), 50: (43.6, 12.6), 100: (65.2, 24.2), 152: (70.8, 24.6)}
"""Millions of parameters and GFLOP of docs/blocks/ir-encoders.md."""


@pytest.mark.parametrize(("depth", "shortcut"), [(50, "projection"), *((depth, "subsample") for depth in DOCUMENTED)])
def test_parameters_and_operations_are_those_of_the_paper(depth: int, shortcut: str) -> None:
    widths, size = (64, 128, 256, 512), 112
    weights, multiplies = 3 * 64 * 9 + 3 * 64, 3 * 64 * 9 * size**2
    source = 64
    for target, units in zip(widths, UNITS_PER_STAGE[depth], strict=True):
        for unit in range(units):
            stride = 1 if unit else 2
            after = size // stride
            weights += 2 * source + source * target * 9 + 3 * target + target * target * 9 + 2 * target
            multiplies += source * target * 9 * size**2 + target * target * 9 * after**2
            if unit == 0 and (source != target or shortcut == "projection"):
                weights += source * target + 2 * target
                multiplies += source * target * after**2
            source, size = target, after
    weights += 2 * 512 + 25088 * 512 + 512 + 2 * 512
    multiplies += 25088 * 512
    with torch.device("meta"):
        network = IRResNet(depth, shortcut=shortcut).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 112, 112))
    assert sum(parameter.numel() for parameter in network.parameters()) == weights
    assert counter.get_total_flops() == 2 * multiplies
    assert (round(weights / 1e6, 1), round(2 * multiplies / 1e9, 1)) == DOCUMENTED[depth]


def test_excitation_equals_loops() -> None:
    layer = SqueezeExcitation(6, reduction=3).double()
    x = torch.randn(2, 6, 3, 2, dtype=torch.float64)
    squeeze, excite = layer.squeeze.weight[:, :, 0, 0], layer.excite.weight[:, :, 0, 0]
    want = torch.empty_like(x)
    for n in range(2):
        hidden = [sum(squeeze[h, c] * x[n, c].mean() for c in range(6)).clamp(min=0) for h in range(2)]
        for c in range(6):
            want[n, c] = x[n, c] / (1 + torch.exp(-sum(excite[c, h] * hidden[h] for h in range(2))))
    torch.testing.assert_close(layer(x), want, rtol=1e-12, atol=1e-12)


@pytest.mark.compiled
@pytest.mark.parametrize("folded", [False, True], ids=["plain", "folded"])
def test_onnx_runtime_agrees_on_any_batch(folded: bool) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network = randomise(IRResNet(18, width=4, image_size=32, embedding_dimension=8)).eval()
    if folded:
        network = network.for_inference()
    stream = io.BytesIO()
    program = torch.onnx.export(
        network,
        (torch.randn(2, 3, 32, 32),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    program.save(stream)
    session = onnxruntime.InferenceSession(stream.getvalue(), providers=["CPUExecutionProvider"])
    for batch in (1, 5):
        images = torch.randn(batch, 3, 32, 32)
        (name,) = (entry.name for entry in session.get_inputs())
        embedding, *_ = session.run(None, {name: images.numpy()})
        with torch.inference_mode():
            want = network(images).embedding
        torch.testing.assert_close(torch.from_numpy(embedding), want, rtol=0.0, atol=1e-4 * float(want.abs().max()))
