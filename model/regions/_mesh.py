"""468 points of a face: MediaPipe's face mesh, run by OpenCV.

Kartynnik et al. 2019, "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs". The network reads an
upright face of 192 x 192 pixels, RGB in [0, 1], and answers with points in these pixels and a log-odds that there is a
face at all.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

WEIGHTS = Path(__file__).parents[1] / "weights" / "face_mesh.tflite"
POINTS = 468
_SIDE = 192
_OUTPUTS = ("conv2d_20", "conv2d_30")  # points and presence
_EYES = ((33, 133), (263, 362))  # corners of the viewer's left and right eye
_MOUTH = (61, 291)
_FAR = 0.6  # eye-to-mouth distances between mesh and landmarks from which the mesh is of another face
_networks = threading.local()


def find_mesh(crop: Image.Image, landmarks: Sequence[tuple[float, float]]) -> np.ndarray | None:
    """Points of the face that fills a square crop; safe to call from several threads.

    Parameters
    ----------
    crop : PIL.Image.Image
        RGB, S x S pixels.
    landmarks : sequence of 5 (x, y)
        In crop pixels, in the order of `model.faces.LANDMARKS`. They say how the head is tilted, and whose face it is.

    Returns
    -------
    ndarray of shape (468, 2), float32, or None
        (x, y) in crop pixels, in MediaPipe's order; None where the network sees no face, or another one.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    eyes, mouth = points[:2].mean(axis=0), points[3:5].mean(axis=0)
    upright = _upright(points, crop.width)
    pixels = cv2.warpAffine(
        np.asarray(crop), upright, (_SIDE, _SIDE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )
    network = _network()
    network.setInput(cv2.dnn.blobFromImage(pixels, 1 / 255))
    found, presence = network.forward(_OUTPUTS)
    if not float(presence.ravel()[0]) > 0:  # also when it is not a number
        return None
    mesh = cv2.transform(found.reshape(1, POINTS, 3)[..., :2], cv2.invertAffineTransform(upright))[0]
    middle = (mesh[np.ravel(_EYES)].mean(axis=0) + mesh[list(_MOUTH)].mean(axis=0)) / 2
    if not np.hypot(*(middle - (eyes + mouth) / 2)) <= _FAR * max(1.0, float(np.hypot(*(mouth - eyes)))):
        return None
    return mesh.astype(np.float32)


def _upright(points: np.ndarray, side: int) -> np.ndarray:
    """Affine map (2, 3) from crop pixels to the network's: the crop turned about its centre, the eyes level."""
    across = points[1] - points[0]
    degrees = float(np.degrees(np.arctan2(across[1], across[0]))) if np.hypot(*across) > 1 else 0.0
    matrix = np.array(cv2.getRotationMatrix2D((side / 2 - 0.5, side / 2 - 0.5), degrees, _SIDE / side), np.float64)
    matrix[:, 2] += (_SIDE - side) / 2  # centre to centre, in coordinates of pixel centres
    return matrix


def _network() -> cv2.dnn.Net:
    """One network per thread: OpenCV's keep state between calls."""
    if not hasattr(_networks, "network"):
        # The classic engine gives both outputs in one pass; given bytes instead of a path, OpenCV 5.0 ignores the wish.
        _networks.network = cv2.dnn.readNetFromTFLite(str(WEIGHTS), cv2.dnn.ENGINE_CLASSIC)
    return _networks.network
