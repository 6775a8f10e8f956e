# SPDX-License-Identifier: Apache-2.0
"""Data sets: an .npz file or a folder of images in, arrays out, and from those the int8 samples a model takes.

A model's input is int8 with a scale and a zero point. What a sample's dtype means:

    uint8   pixels. A model whose real input range is 0..1, -1..1 or 0..255 gets pixel - 128; any other range gets
            pixel / 255, quantized.
    int8    the model's own integers, fed as they are
    float   real values of the model's input, quantized: round half to even, saturate
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytrain.errors import DataError

if TYPE_CHECKING:
    from tinytrain.graph import Graph

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
TEST_SHARE = 0.2  # of each class, where a folder does not say what is for testing
PIXEL_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))  # real input ranges that models for images are trained with
_CHUNK = 256  # samples quantized at a time, so that no wide copy of a whole set exists


@dataclass(frozen=True)
class InputSpec:
    """What a model takes: the shape of one sample (images are [H, W, C]); real = scale * (integer - zero_point)."""

    shape: tuple[int, ...]
    scale: float
    zero_point: int
    name: str = "input"

    @staticmethod
    def of(graph: Graph) -> InputSpec:
        """The input of a model's graph."""
        tensor = graph[graph.inputs[0]]
        return InputSpec(tensor.shape, tensor.scale, tensor.zero_point, tensor.name)

    @staticmethod
    def from_dict(facts: Mapping[str, Any]) -> InputSpec:
        """The "input" of a plan.json or export.json."""
        shape = tuple(int(size) for size in facts["shape"])
        return InputSpec(shape, float(facts["scale"]), int(facts["zero_point"]), str(facts.get("name", "input")))

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    @property
    def text(self) -> str:
        return "x".join(str(size) for size in self.shape)


@dataclass(frozen=True)
class Dataset:
    """Samples and labels for training and testing.

    x_train, x_test: [N, ...] uint8, int8 or float, as the source holds them
    y_train, y_test: int64 [N], 0 .. len(class_names) - 1
    source:          where they come from
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]
    source: str

    @property
    def class_count(self) -> int:
        return len(self.class_names)


def load_data(path: Path | str, input_spec: InputSpec, seed: int = 0, labelled: bool = True) -> Dataset:
    """Read an .npz file, or a folder of class folders of images. DataError says what does not fit the model.

    labelled: whether labels are needed; an auto-encoder's .npz file may leave them out, they are zeros then
    .npz:   x_train, y_train, x_test, y_test and, if it likes, class_names. Instead of x_train: jpeg_x_train, the bytes
            of JPEG images one after the other, and joff_x_train, where each begins and the last one ends.
    folder: CLASS/*.jpg, split by `seed`; or train/CLASS/*.jpg and test/CLASS/*.jpg. Images are cropped to the model's
            proportions around their centre and resized.
    """
    path = Path(path)
    if path.is_dir():
        data = _load_folder(path, input_spec, seed)
    elif path.is_file():
        data = _load_npz(path, input_spec, labelled)
    else:
        raise DataError(
            f"there is no data at '{path}'", fix="an .npz file, or a folder with one folder of images per class"
        )
    check_data(data, input_spec)
    return data


def check_data(data: Dataset, input_spec: InputSpec, classes: int | None = None) -> None:
    """DataError unless samples have the model's shape and labels are within the classes (of the data, or `classes`)."""
    count = data.class_count if classes is None else classes
    for part, x, y in (("train", data.x_train, data.y_train), ("test", data.x_test, data.y_test)):
        where = f"{data.source}, x_{part}"
        if len(x) == 0:
            raise DataError(f"there are no {part} samples", where=where, fix="both training and testing need some")
        _check_shape(x, input_spec, where)
        _check_values(x, where)
        _check_labels(y, len(x), count, f"{data.source}, y_{part}")


def pixel_table(input_spec: InputSpec) -> np.ndarray:
    """The int8 value of each of the 256 pixel values."""
    pixels = np.arange(256)
    if takes_pixels(input_spec):
        return (pixels - 128).astype(np.int8)
    return _quantize(pixels / 255.0, input_spec)


def takes_pixels(input_spec: InputSpec) -> bool:
    """Whether pixel - 128 is the model's integer for a pixel: its scale spans a pixel range in 255 steps from -128."""
    for low, high in PIXEL_RANGES:
        gain = (high - low) / 255 / input_spec.scale
        start = low / input_spec.scale + input_spec.zero_point
        if abs(gain - 1) < 0.02 and abs(start + 128) <= 1:
            return True
    return False


def quantize_samples(x: np.ndarray, input_spec: InputSpec) -> np.ndarray:
    """The int8 samples the model takes, in its input's shape."""
    return gather_samples(x, np.arange(len(x)), input_spec)


def gather_samples(x: np.ndarray, indices: np.ndarray, input_spec: InputSpec, flip: bool = False) -> np.ndarray:
    """Quantized copies of some samples, mirrored left to right with `flip`."""
    out = np.empty((len(indices), *input_spec.shape), np.int8)
    table = pixel_table(input_spec) if x.dtype == np.uint8 else None
    for start in range(0, len(indices), _CHUNK):
        chunk = x[indices[start : start + _CHUNK]].reshape(-1, *input_spec.shape)
        if flip:
            chunk = chunk[:, :, ::-1]
        if table is not None:
            out[start : start + _CHUNK] = table[chunk]
        elif x.dtype == np.int8:
            out[start : start + _CHUNK] = chunk
        else:
            out[start : start + _CHUNK] = _quantize(chunk, input_spec)
    return out


def drawn_samples(data: Dataset, input_spec: InputSpec, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(quantized training samples, labels): `count` at most, in random order, because data is often sorted by class."""
    chosen = np.random.default_rng(seed).permutation(len(data.x_train))[:count]
    return gather_samples(data.x_train, chosen, input_spec), data.y_train[chosen]


def _quantize(real: np.ndarray, input_spec: InputSpec) -> np.ndarray:
    real = np.asarray(real, np.float64)
    if not np.isfinite(real).all():
        raise DataError("a sample holds a value that is not finite", fix="remove NaN and infinity")
    integers = np.rint(real / input_spec.scale) + input_spec.zero_point
    return np.clip(integers, -128, 127).astype(np.int8)


# --- checks ---


def _check_shape(x: np.ndarray, input_spec: InputSpec, where: str) -> None:
    got, want = tuple(x.shape[1:]), input_spec.shape
    same = [size for size in got if size != 1] == [size for size in want if size != 1]
    flat = np.prod(got) == np.prod(want) and 1 in (len(got), len(want))
    if same or flat:
        return
    got_text = "x".join(str(size) for size in got) or "a single number"
    fix = f"give samples of {input_spec.text}"
    if input_spec.is_image and got == (want[2], want[0], want[1]):
        fix = "put channels last: x.transpose(0, 2, 3, 1)"
    elif input_spec.is_image and len(got) == 3:
        fix = f"resize to {want[0]}x{want[1]}; images in a folder (one folder per class) are resized for you"
        if got[:2] == want[:2]:
            fix = f"give images with {want[2]} channel{'s' if want[2] > 1 else ''}, not {got[2]}"
    raise DataError(f"samples are {got_text}, the model takes {input_spec.text}", where=where, fix=fix)


def _check_values(x: np.ndarray, where: str) -> None:
    if x.dtype in (np.uint8, np.int8):
        return
    if x.dtype.kind != "f":
        raise DataError(
            f"samples are {x.dtype}", where=where, why="uint8 are pixels, int8 the model's integers, float real values",
            fix="convert them to one of these",
        )  # fmt: skip
    for start in range(0, len(x), _CHUNK):
        chunk = x[start : start + _CHUNK]
        bad = ~np.isfinite(chunk.reshape(len(chunk), -1)).all(axis=1)
        if bad.any():
            index = start + int(np.argmax(bad))
            raise DataError(
                f"sample {index} holds a value that is not finite", where=where, fix="remove NaN and infinity"
            )


def _check_labels(y: np.ndarray, samples: int, classes: int, where: str) -> None:
    if y.shape != (samples,):
        raise DataError(
            f"there are {samples} samples and labels of shape {list(y.shape)}",
            where=where,
            fix="one class index per sample",
        )
    if y.dtype.kind not in "iu":
        raise DataError(
            f"labels are {y.dtype}, not integers", where=where, fix="class indices from 0: y.astype('int64')"
        )
    outside = (y < 0) | (y >= classes)
    if outside.any():
        index = int(np.argmax(outside))
        raise DataError(
            f"label {int(y[index])} of sample {index} is outside the {classes} classes 0..{classes - 1}", where=where,
            why=f"{int(outside.sum())} of {samples} labels are",
            fix=f"labels from 0 to {classes - 1}, or plan for more classes: --classes {max(int(y.max()) + 1, classes)}",
        )  # fmt: skip


# --- .npz ---


def _load_npz(path: Path, input_spec: InputSpec, labelled: bool) -> Dataset:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is not an archive of named arrays")
        with archive:
            return _from_archive(path, archive, input_spec, labelled)
    except DataError:
        raise
    except Exception as error:  # numpy, zipfile and zlib each raise their own on damaged files
        raise DataError(
            f"the data file '{path}' cannot be read", why=str(error) or type(error).__name__,
            fix="write it with numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)",
        ) from None  # fmt: skip


def _from_archive(path: Path, archive: Any, input_spec: InputSpec, labelled: bool) -> Dataset:
    keys = set(archive.files)
    needed = ("x_train", "y_train", "x_test", "y_test") if labelled else ("x_train", "x_test")
    missing = [key for key in needed if key not in keys and f"jpeg_{key}" not in keys]
    if missing:
        raise DataError(
            f"the data file has no '{missing[0]}'", where=str(path),
            why=f"it holds: {', '.join(sorted(keys)) or 'nothing'}",
            fix=f"it needs {', '.join(needed[:-1])} and {needed[-1]}",
        )  # fmt: skip
    x_train, x_test = (
        archive[key] if key in keys else _decode(path, archive, key, input_spec) for key in ("x_train", "x_test")
    )
    labels = [
        _labels(archive[key], f"{path}, {key}") if key in keys else np.zeros(len(x), np.int64)
        for key, x in (("y_train", x_train), ("y_test", x_test))
    ]
    names = _class_names(path, archive["class_names"] if "class_names" in keys else None, labels)
    return Dataset(x_train, labels[0], x_test, labels[1], names, str(path))


def _labels(y: np.ndarray, where: str) -> np.ndarray:
    if y.ndim == 2 and y.shape[1] > 1:
        raise DataError("labels are one-hot", where=where, fix="class indices: y.argmax(axis=1)")
    y = y.reshape(-1)
    if y.dtype.kind == "f" and np.isfinite(y).all() and (y == np.rint(y)).all():
        return y.astype(np.int64)
    return y.astype(np.int64) if y.dtype.kind in "iu" else y


def _class_names(path: Path, names: np.ndarray | None, labels: list[np.ndarray]) -> tuple[str, ...]:
    if names is not None:
        return tuple(str(name) for name in np.atleast_1d(names))
    largest = max((int(y.max()) for y in labels if y.size and y.dtype.kind == "i"), default=0)
    if largest >= 1 << 16:
        raise DataError(f"the largest label is {largest}", where=str(path), fix="number the classes from 0")
    return tuple(str(index) for index in range(max(largest, 0) + 1))


def _decode(path: Path, archive: Any, key: str, input_spec: InputSpec) -> np.ndarray:
    """Packed JPEG images into one array that is allocated once."""
    packed, offsets = archive[f"jpeg_{key}"], np.asarray(archive[f"joff_{key}"]).astype(np.int64)
    where = f"{path}, jpeg_{key}"
    if (
        offsets.ndim != 1
        or len(offsets) < 2
        or (np.diff(offsets) < 0).any()
        or offsets[0] < 0
        or offsets[-1] > len(packed)
    ):
        raise DataError("the offsets of packed images are not in order", where=where)
    _need_image(input_spec, where)
    images = np.empty((len(offsets) - 1, *input_spec.shape), np.uint8)
    for index, image in enumerate(images):
        source = io.BytesIO(packed[offsets[index] : offsets[index + 1]].tobytes())
        image[...] = _image(source, f"{where}, image {index}", input_spec, resize=False)
    return images


# --- images ---


def _need_image(input_spec: InputSpec, where: str) -> None:
    if not input_spec.is_image or input_spec.shape[2] not in (1, 3):
        raise DataError(
            f"the model takes {input_spec.text}, which is not an image", where=where,
            why="images have a height, a width and 1 or 3 channels", fix="give the data as an .npz file",
        )  # fmt: skip


def _image(source: io.BytesIO | Path, where: str, input_spec: InputSpec, resize: bool) -> np.ndarray:
    """One decoded image [H, W, C]. With `resize`: the largest centred part of the model's proportions, bilinear."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    height, width, channels = input_spec.shape
    try:
        with Image.open(source) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB" if channels == 3 else "L")
            if resize:
                image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
            if image.size != (width, height):
                got = np.empty((1, image.height, image.width, channels), np.uint8)
                _check_shape(got, input_spec, where)
            return np.asarray(image).reshape(height, width, channels)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError("an image cannot be read", where=where, why=str(error), fix="remove or replace it") from None


def _load_folder(path: Path, input_spec: InputSpec, seed: int) -> Dataset:
    _need_image(input_spec, str(path))
    if (path / "train").is_dir() and (path / "test").is_dir():
        train, test = _class_folders(path / "train"), _class_folders(path / "test")
        names = tuple(train)
        unknown = [name for name in test if name not in train]
        if unknown:
            raise DataError(f"class '{unknown[0]}' is in test/ but not in train/", where=str(path))
        parts = [_labelled(names, train), _labelled(names, test)]
    else:
        classes = _class_folders(path)
        names = tuple(classes)
        parts = _split(path, names, classes, seed)
    arrays: list[np.ndarray] = []
    for files, labels in parts:
        images = np.empty((len(files), *input_spec.shape), np.uint8)
        for image, file in zip(images, files, strict=True):
            image[...] = _image(file, str(file), input_spec, resize=True)
        arrays += [images, np.array(labels, np.int64)]
    x_train, y_train, x_test, y_test = arrays
    return Dataset(x_train, y_train, x_test, y_test, names, str(path))


def _class_folders(path: Path) -> dict[str, list[Path]]:
    """The images of each class, by the name of its folder."""
    classes = {}
    for folder in sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise DataError(
                f"class '{folder.name}' has no images", where=str(folder), fix="add some, or remove the folder"
            )
        classes[folder.name] = files
    if len(classes) < 2:
        raise DataError(
            f"'{path}' holds {len(classes)} class folders",
            where=str(path),
            fix="one folder of images per class, at least 2",
        )
    return classes


def _labelled(names: tuple[str, ...], classes: dict[str, list[Path]]) -> tuple[list[Path], list[int]]:
    files = [file for name in names for file in classes.get(name, [])]
    return files, [label for label, name in enumerate(names) for _ in classes.get(name, [])]


def _split(
    path: Path, names: tuple[str, ...], classes: dict[str, list[Path]], seed: int
) -> list[tuple[list[Path], list[int]]]:
    """80 % of each class for training, the rest for testing; which ones is up to the seed."""
    rng = np.random.default_rng(seed)
    train, test = {}, {}
    for name, files in classes.items():
        if len(files) < 2:
            raise DataError(
                f"class '{name}' has one image only", where=str(path / name), fix="at least 2: train and test"
            )
        shuffled = [files[i] for i in rng.permutation(len(files))]
        count = max(1, round(len(files) * TEST_SHARE))
        test[name], train[name] = shuffled[:count], shuffled[count:]
    return [_labelled(names, train), _labelled(names, test)]
