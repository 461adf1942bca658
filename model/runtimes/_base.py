"""The interface of a runtime."""

from __future__ import annotations

from typing import Protocol

import numpy as np

INT8 = "int8"
PRECISIONS = ("fp32", "bf16", INT8)


class RuntimeRefusedError(ValueError):
    """A runtime that is not installed or does not agree with the reference; the message says what to do."""


class Runtime(Protocol):
    """A network ready to be computed.

    Attributes
    ----------
    name : str
        `torch`, `cuda`, `openvino` or `onnxruntime`.
    precision : {"fp32", "bf16", "int8"}
    bias : float
        What the logit has beside the sum of the map.
    """

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def bias(self) -> float: ...

    def forward(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Evidence maps and logits of normalised crops; not to be called by two threads at once.

        Parameters
        ----------
        batch : ndarray of shape (N, 3, S, S), float32

        Returns
        -------
        evidence : ndarray of shape (N, H, W), float32
            Log-odds per cell; `evidence.sum((1, 2)) + bias == logits`.
        logits : ndarray of shape (N,), float32
        """
        ...
