# SPDX-License-Identifier: Apache-2.0
"""Data sets in, arrays and int8 samples out; what does not fit is refused with what to do about it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.small import SIZE, arrays, write_data
from tinytrain.data import (
    Dataset,
    InputSpec,
    check_data,
    gather_samples,
    load_data,
    pixel_table,
    quantize_samples,
    takes_pixels,
)
from tinytrain.errors import DataError

IMAGE = InputSpec((SIZE, SIZE, 3), 2 / 255, 0)
PIXELS = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)


def pixel_spec(scale: float, zero_point: int) -> InputSpec:
    return InputSpec((16, 16, 1), scale, zero_point)


# --- uint8, int8 and float ---


@pytest.mark.parametrize(
    ("scale", "zero_point"),
    [(2 / 255, 0), (1 / 128, 0), (2 / 255, -1), (1 / 255, -128), (1 / 256, -128), (1.0, -128), (0.0078393, 0)],
)
def test_pixels_feed_as_pixel_minus_128_where_the_range_is_one_of_images(scale: float, zero_point: int) -> None:
    got = quantize_samples(PIXELS, pixel_spec(scale, zero_point))
    assert got.dtype == np.int8
    assert got.reshape(-1).tolist() == list(range(-128, 128))


@pytest.mark.parametrize(("scale", "zero_point"), [(0.0186, -14), (1 / 255, 0), (2 / 255, -128), (0.39, 89)])
def test_pixels_are_normalised_to_0_1_and_quantized_where_it_is_another(scale: float, zero_point: int) -> None:
    spec = pixel_spec(scale, zero_point)
    want = np.clip(np.rint(np.arange(256) / 255 / scale) + zero_point, -128, 127)
    assert not takes_pixels(spec)
    assert quantize_samples(PIXELS, spec).reshape(-1).tolist() == want.tolist()
    assert pixel_table(spec).tolist() == want.tolist()


def test_int8_is_fed_as_it_is() -> None:
    x = np.arange(-128, 128, dtype=np.int8).reshape(1, 16, 16, 1)
    assert np.array_equal(quantize_samples(x, pixel_spec(0.3, 7)), x)


def test_floats_round_half_to_even_and_saturate() -> None:
    spec = InputSpec((7,), 0.5, 3)
    x = np.array([[0.25, 0.75, 1.25, -0.25, 1000.0, -1e30, 0.0]], np.float32)
    assert quantize_samples(x, spec).tolist() == [[3, 5, 5, 3, 127, -128, 3]]


def test_samples_can_be_picked_and_mirrored() -> None:
    x = arrays()["x_train"]
    picked = np.array([5, 2, 5])
    assert np.array_equal(gather_samples(x, picked, IMAGE), quantize_samples(x, IMAGE)[picked])
    assert np.array_equal(gather_samples(x, picked, IMAGE, flip=True), quantize_samples(x[picked][:, :, ::-1], IMAGE))


def test_many_samples_are_quantized_in_chunks_without_a_difference() -> None:
    x = np.random.default_rng(0).normal(size=(1000, 5)).astype(np.float32)
    spec = InputSpec((5,), 0.02, 1)
    assert np.array_equal(quantize_samples(x, spec)[700:800], quantize_samples(x[700:800], spec))


# --- .npz ---


def save(path: Path, **changes: Any) -> Path:
    """arrays() with some replaced, or left out where the change is None."""
    made = {**arrays(), **changes}
    np.savez(path / "data.npz", **{key: value for key, value in made.items() if value is not None})
    return path / "data.npz"


def test_npz_gives_arrays_as_they_are_and_names_classes(tmp_path: Path) -> None:
    data = load_data(write_data(tmp_path / "d.npz"), IMAGE)
    want = arrays()
    assert data.x_train.dtype == np.uint8 and np.array_equal(data.x_test, want["x_test"])
    assert data.y_train.tolist() == want["y_train"].tolist()
    assert data.class_names == ("red", "green", "blue") and data.class_count == 3


def test_npz_without_names_counts_the_classes(tmp_path: Path) -> None:
    assert load_data(save(tmp_path), IMAGE).class_names == ("0", "1", "2")


def test_packed_jpeg_images_are_decoded(tmp_path: Path) -> None:
    made = arrays(train=4, test=3)
    packed: dict[str, Any] = {"y_train": made["y_train"].astype(np.int16), "y_test": made["y_test"]}
    decoded = {}
    for key in ("x_train", "x_test"):
        files = []
        for image in made[key]:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=90)
            files.append(buffer.getvalue())
        decoded[key] = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
        packed[f"jpeg_{key}"] = np.frombuffer(b"".join(files), np.uint8)
        packed[f"joff_{key}"] = np.cumsum([0, *map(len, files)]).astype(np.int32)
    np.savez(tmp_path / "packed.npz", **packed)
    data = load_data(tmp_path / "packed.npz", IMAGE)
    assert np.array_equal(data.x_train, decoded["x_train"]) and np.array_equal(data.x_test, decoded["x_test"])
    with pytest.raises(DataError, match="samples are 16x16x3, the model takes 12x12x3"):
        load_data(tmp_path / "packed.npz", InputSpec((12, 12, 3), 2 / 255, 0))
    packed["jpeg_x_test"] = np.roll(packed["jpeg_x_test"], 7)
    np.savez(tmp_path / "packed.npz", **packed)
    with pytest.raises(DataError, match="an image cannot be read") as error:
        load_data(tmp_path / "packed.npz", IMAGE)
    assert "jpeg_x_test, image 0" in error.value.where


@pytest.mark.parametrize(
    ("shape", "model"),
    [((40,), (40,)), ((8, 5), (8, 5, 1)), ((8, 5, 1), (8, 5)), ((40,), (8, 5, 1)), ((8, 5), (40,)), ((1, 40), (40,))],
)
def test_vectors_and_single_channels_fit_in_every_usual_shape(shape: tuple[int, ...], model: tuple[int, ...]) -> None:
    x, y = np.zeros((4, *shape), np.float32), np.zeros(4, np.int64)
    spec = InputSpec(model, 0.1, 0)
    check_data(Dataset(x, y, x, y, ("a",), "here"), spec)
    assert quantize_samples(x, spec).shape == (4, *model)


X, Y = arrays()["x_train"], arrays()["y_train"]
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "missing key": ({"y_test": None}, "no 'y_test'", "x_train, y_train, x_test and y_test"),
    "wrong size": ({"x_train": X[:, :12, :12]}, "samples are 12x12x3, the model takes 16x16x3", "resize to 16x16"),
    "grey": ({"x_test": X[:21, :, :, :1]}, "16x16x1, the model takes 16x16x3", "3 channels, not 1"),
    "channels first": ({"x_train": X.transpose(0, 3, 1, 2)}, "3x16x16", "transpose"),
    "NaN": ({"x_train": np.where(np.arange(48)[:, None, None, None] == 17, np.nan, X)}, "sample 17 .* not finite", ""),
    "int32 samples": ({"x_train": X.astype(np.int32)}, "samples are int32", "convert"),
    "label too large": (
        {"class_names": np.array(["a", "b"])},
        "label 2 of sample 32 is outside the 2 classes",
        "--classes 3",
    ),
    "negative label": ({"y_test": np.full(21, -1)}, "label -1", "from 0 to 2"),
    "label count": ({"y_train": Y[:40]}, "48 samples and labels of shape", "one class index per sample"),
    "one-hot": ({"y_train": np.eye(3)[Y]}, "one-hot", "argmax"),
    "broken labels": ({"y_train": Y + 0.5}, "labels are float64", "astype"),
    "names as labels": ({"y_train": np.array(["red"] * 48)}, "labels are <U3", "class indices"),
    "empty": ({"x_test": X[:0], "y_test": Y[:0]}, "no test samples", "both"),
    "objects": ({"x_train": np.array([None] * 48)}, "cannot be read", "savez"),
    "huge label": ({"y_train": Y + 10**9}, "largest label", "from 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_npz_that_does_not_fit_is_refused(case: str, tmp_path: Path) -> None:
    changes, message, fix = REFUSED[case]
    with pytest.raises(DataError, match=message) as error:
        load_data(save(tmp_path, **changes), IMAGE)
    assert fix in error.value.fix
    assert "data.npz" in error.value.where or "data.npz" in error.value.what


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x93NUMPY", b"text"])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        load_data(path, IMAGE)


def test_a_file_cut_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match="cannot be read"):
        load_data(path, IMAGE)


def test_where_no_label_is_needed_none_is(tmp_path: Path) -> None:
    made = arrays()
    np.savez(tmp_path / "d.npz", x_train=made["x_train"], x_test=made["x_test"])
    data = load_data(tmp_path / "d.npz", IMAGE, labelled=False)
    assert not data.y_train.any() and len(data.y_train) == 48 and not data.y_test.any() and len(data.y_test) == 21
    with pytest.raises(DataError, match="no 'y_train'"):
        load_data(tmp_path / "d.npz", IMAGE)
    np.savez(tmp_path / "e.npz", x_train=made["x_train"])
    with pytest.raises(DataError, match="no 'x_test'") as caught:
        load_data(tmp_path / "e.npz", IMAGE, labelled=False)
    assert caught.value.fix == "it needs x_train and x_test"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no data at"):
        load_data(tmp_path / "none.npz", IMAGE)


def test_labels_may_be_checked_against_the_models_classes() -> None:
    x, y = X, Y
    data = Dataset(x, y, x, y, ("a", "b", "c"), "here")
    check_data(data, IMAGE, classes=3)
    with pytest.raises(DataError, match="outside the 2 classes"):
        check_data(data, IMAGE, classes=2)


# --- folders ---


def paint(path: Path, size: tuple[int, int], colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_a_folder_of_class_folders_is_split_by_seed(tmp_path: Path) -> None:
    for name, colour in (("zebra", (200, 0, 0)), ("ant", (0, 90, 0))):
        for index in range(10):
            paint(tmp_path / name / f"{index}.png", (20 + index, 30), (*colour[:2], index))
    data = load_data(tmp_path, IMAGE)
    assert data.class_names == ("ant", "zebra")
    assert data.x_train.shape == (16, 16, 16, 3) and data.x_test.shape == (4, 16, 16, 3)
    assert data.y_test.tolist() == [0, 0, 1, 1]
    assert data.x_train[0, 5, 5, :2].tolist() == [0, 90]
    seen = {(int(y), int(x[0, 0, 2])) for x, y in zip(data.x_train, data.y_train, strict=True)}
    seen |= {(int(y), int(x[0, 0, 2])) for x, y in zip(data.x_test, data.y_test, strict=True)}
    assert len(seen) == 20, "every image is in exactly one part"
    assert np.array_equal(load_data(tmp_path, IMAGE).x_test, data.x_test)
    assert not np.array_equal(load_data(tmp_path, IMAGE, seed=1).x_test, data.x_test)


def test_train_and_test_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("test", 2)):
        for name in ("a", "b"):
            for index in range(count):
                paint(tmp_path / part / name / f"{index}.jpg", (16, 16), (9, 9, 9))
    data = load_data(tmp_path, IMAGE)
    assert (data.y_train.tolist(), data.y_test.tolist()) == ([0, 0, 0, 1, 1, 1], [0, 0, 1, 1])
    paint(tmp_path / "test" / "c" / "0.jpg", (16, 16), (0, 0, 0))
    with pytest.raises(DataError, match="class 'c' is in test/ but not in train/"):
        load_data(tmp_path, IMAGE)


def test_images_are_cropped_around_their_centre(tmp_path: Path) -> None:
    """A wide picture: red, white in the middle square, blue."""
    image = Image.new("RGB", (96, 32), (255, 255, 255))
    image.paste((255, 0, 0), (0, 0, 32, 32))
    image.paste((0, 0, 255), (64, 0, 96, 32))
    for name in ("a", "b"):
        for index in range(2):
            path = tmp_path / name / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            image.save(path)
    data = load_data(tmp_path, IMAGE)
    assert (data.x_train[:, :, 1:-1] == 255).all(), "only the middle square is left"
    grey = load_data(tmp_path, InputSpec((8, 24, 1), 1 / 255, -128))
    assert grey.x_train.shape == (2, 8, 24, 1)


def test_folders_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 0 class folders"):
        load_data(tmp_path, IMAGE)
    paint(tmp_path / "a" / "0.png", (8, 8), (0, 0, 0))
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="class 'b' has no images"):
        load_data(tmp_path, IMAGE)
    (tmp_path / "b" / "0.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match="class 'a' has one image only"):
        load_data(tmp_path, IMAGE)
    (tmp_path / "b" / "1.png").write_bytes(b"not an image")
    paint(tmp_path / "a" / "1.png", (8, 8), (0, 0, 0))
    with pytest.raises(DataError, match="an image cannot be read") as error:
        load_data(tmp_path, IMAGE)
    assert ".png" in error.value.where
    with pytest.raises(DataError, match="the model takes 49x10x2, which is not an image"):
        load_data(tmp_path, InputSpec((49, 10, 2), 1.0, 0))
