"""Import guard for torchvision beside a torch build it was not linked against.

PyPI's Linux wheel of torchvision is a CUDA build. Beside a CPU-only torch its compiled operators do not load, and two
unguarded registrations then raise at import. Declaring those two operators is enough for models and transforms;
`torchvision.ops.nms` and `torchvision.io` stay unavailable and are not used here. On a matching pair this does nothing.

Import this module before anything that imports torchvision (timm, pytorch_grad_cam, torchmetrics).
"""

from __future__ import annotations

import sys

import torch

_NMS_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

try:
    import torchvision
except RuntimeError as error:
    if "torchvision::" not in str(error):
        raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", _NMS_SCHEMA)
    import torchvision

__all__ = ["torchvision"]
