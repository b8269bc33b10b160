"""Data sets: the split, the search for IDX files, the download, and every way in which a file can be wrong."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pcalm.experiments import data

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 3, 2)).astype(np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9], dtype=np.uint8)


def idx(array: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


CONTENTS = dict(zip(data.FILES, (idx(IMAGES), idx(LABELS), idx(IMAGES[:4]), idx(LABELS[:4])), strict=True))


def lay(folder: Path, changed: Mapping[str, bytes] = CONTENTS, *, zipped: bool = False) -> Path:
    """The four files in the folder, some of them changed."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in {**CONTENTS, **changed}.items():
        (folder / f"{file}{'.gz' if zipped else ''}").write_bytes(gzip.compress(content) if zipped else content)
    return folder


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data on this machine, and no network: a server that refuses."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PCALM_DATA", raising=False)
    monkeypatch.setenv("PCALM_DATA_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(data, "DEBIAN", tmp_path / "debian")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is served as $PCALM_DATA_URL, with the digests of CONTENTS expected."""
    root = tmp_path / "served"
    lay(root / "mnist", zipped=True)
    digests = tuple(hashlib.sha256(content).hexdigest() for content in CONTENTS.values())
    monkeypatch.setitem(data.SHA256, "mnist", digests)
    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.setenv("PCALM_DATA_URL", f"http://127.0.0.1:{httpd.server_port}/")
        yield root
        httpd.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_digits_split_and_standardisation() -> None:
    found = data.load("digits", dtype=torch.float64)
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(1797)
    train = pixels[order[:1440]]
    # One subtraction and one division, of numbers of size 1.
    np.testing.assert_allclose(found.train_inputs.numpy(), (train - train.mean()) / train.std(), rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(
        found.test_inputs.numpy(), (pixels[order[1440:]] - train.mean()) / train.std(), rtol=1e-14, atol=1e-14
    )
    assert found.train_labels.tolist() == labels[order[:1440]].tolist()
    assert found.test_labels.tolist() == labels[order[1440:]].tolist()
    assert (found.mean, found.std, found.classes) == (train.mean(), train.std(), 10)


def test_one_hot() -> None:
    found = data.load("digits")
    targets = found.one_hot(torch.tensor([[2], [9]]))
    assert targets.dtype == torch.float32
    assert targets.shape == (2, 1, 10)
    assert targets.argmax(-1).tolist() == [[2], [9]]
    assert targets.sum(-1).tolist() == [[1], [1]]


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_read_gzipped_or_not(tmp_path: Path, zipped: bool) -> None:
    found = data.load("fashion-mnist", lay(tmp_path / "set", zipped=zipped), dtype=torch.float64)
    pixels = IMAGES.reshape(6, 6).astype(float)
    expected = (pixels - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(found.train_inputs.numpy(), expected, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(found.test_inputs.numpy(), expected[:4], rtol=1e-14, atol=1e-14)
    assert found.train_labels.tolist() == LABELS.tolist()
    assert found.test_labels.tolist() == LABELS[:4].tolist()


def test_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Path) -> None:
    """data_dir before $PCALM_DATA before the cache before Debian's place before a download."""
    monkeypatch.setenv("PCALM_DATA", str(tmp_path / "named"))
    given = tmp_path / "given"
    given.mkdir()
    cached = tmp_path / "cache" / "pcalm" / "mnist"
    assert data.locate("mnist", given) == cached  # downloaded
    for file in cached.iterdir():
        file.unlink()
    for folder in (tmp_path / "debian" / "mnist", cached, tmp_path / "named", given):
        lay(folder)
        assert data.locate("mnist", given) == folder


@pytest.mark.parametrize("folder", [".", "mnist", "package/data"])
def test_folders_that_are_looked_into(tmp_path: Path, folder: str) -> None:
    lay(tmp_path / "given" / folder)
    assert data.locate("mnist", tmp_path / "given") == tmp_path / "given" / folder


def test_the_other_data_set_is_not_taken_for_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path / "given")
    digest = hashlib.sha256(CONTENTS[data.FILES[-1]]).hexdigest()
    monkeypatch.setitem(data.SHA256, "fashion-mnist", ("", "", "", digest))
    assert data.locate("fashion-mnist", tmp_path / "given") == tmp_path / "given"
    with pytest.raises(FileNotFoundError, match="given: holds fashion-mnist"):
        data.locate("mnist", tmp_path / "given")


def test_nothing_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCALM_DATA", str(tmp_path / "named"))
    lay(tmp_path / "named")
    (tmp_path / "named" / data.FILES[1]).unlink()
    (tmp_path / "given").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        data.load("fashion-mnist", tmp_path / "given")
    message = str(caught.value)
    for expected in (
        f"{tmp_path / 'given' / 'fashion-mnist'}: no such folder",
        f"{tmp_path / 'given'}: lacks train-images-idx3-ubyte, train-labels-idx1-ubyte",
        f"{tmp_path / 'named'}: lacks train-labels-idx1-ubyte",
        f"{tmp_path / 'cache' / 'pcalm'}: no such folder",
        f"{tmp_path / 'debian'}: no such folder",
        "http://127.0.0.1:9/fashion-mnist: ",
        "apt-get install dataset-fashion-mnist",
        "--data-dir",
        "$PCALM_DATA_URL",
    ):
        assert expected in message
    assert not list((tmp_path / "cache").rglob("*ubyte*"))


def test_a_user_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Path) -> None:
    """As in a container that runs under a number that no user has."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", unknown)
    assert data.locate("mnist", lay(tmp_path / "named")) == tmp_path / "named"
    with pytest.raises(FileNotFoundError, match="no place for a cache: this user has no home; set HOME or XDG_CACHE"):
        data.locate("mnist")


def test_download_is_verified_and_kept(tmp_path: Path, server: Path) -> None:
    found = data.load("mnist")
    assert found.train_labels.tolist() == LABELS.tolist()
    cached = tmp_path / "cache" / "pcalm" / "mnist"
    assert {path.name: path.read_bytes() for path in cached.iterdir()} == CONTENTS
    (server / "mnist").rename(server / "gone")
    assert data.load("mnist").train_inputs.equal(found.train_inputs)


def test_download_continues_where_it_stopped(tmp_path: Path, server: Path) -> None:
    missing = server / "mnist" / f"{data.FILES[2]}.gz"
    content = missing.read_bytes()
    missing.unlink()
    with pytest.raises(FileNotFoundError, match="404"):
        data.load("mnist")
    cached = tmp_path / "cache" / "pcalm" / "mnist"
    assert sorted(path.name for path in cached.iterdir()) == sorted(data.FILES[:2])
    missing.write_bytes(content)
    (server / "mnist" / f"{data.FILES[0]}.gz").unlink()
    assert len(data.load("mnist").train_labels) == len(LABELS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(idx(IMAGES[:5])), "is not mnist's train-images-idx3-ubyte: its SHA-256 is [0-9a-f]{64}"),
        (gzip.compress(CONTENTS[data.FILES[0]])[:-9], "is damaged"),
        (b"<html>sign in</html>", "is not mnist's train-images-idx3-ubyte"),
    ],
    ids=["another file", "damaged", "a web page"],
)
def test_a_wrong_download_is_not_kept(tmp_path: Path, server: Path, content: bytes, message: str) -> None:
    (server / "mnist" / f"{data.FILES[0]}.gz").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        data.load("mnist")
    assert list((tmp_path / "cache" / "pcalm" / "mnist").iterdir()) == []


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "train-images-idx3-ubyte",
            idx(LABELS),
            r"magic number 00000801, expected 00000803 \(unsigned bytes, 3 dimensions\)",
        ),
        ("train-labels-idx1-ubyte", idx(IMAGES), "magic number 00000803, expected 00000801"),
        ("train-images-idx3-ubyte", b"", "magic number nothing"),
        ("train-images-idx3-ubyte", idx(IMAGES)[:10], "truncated: 10 bytes, expected 16"),
        ("train-images-idx3-ubyte", idx(IMAGES)[:-1], "truncated: 51 bytes, expected 52"),
        ("t10k-images-idx3-ubyte", idx(IMAGES) + b"\0", "too long: 53 bytes, expected 52"),
        ("train-labels-idx1-ubyte", idx(LABELS[:-1]), "has 6 images, but .*train-labels-idx1-ubyte has 5 labels"),
        ("t10k-images-idx3-ubyte", idx(IMAGES[:3]), "has 3 images, but .*t10k-labels-idx1-ubyte has 4 labels"),
        ("t10k-images-idx3-ubyte", idx(IMAGES[:4, :2]), "training images of 6 pixels, but test images of 4"),
        ("t10k-labels-idx1-ubyte", idx(LABELS[:4] + np.uint8(8)), "has the label 12, expected 0 to 9"),
        ("train-images-idx3-ubyte", gzip.compress(idx(IMAGES))[:-1], "is damaged"),
        ("train-images-idx3-ubyte", idx(IMAGES * np.uint8(0)), "one grey level only"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",  # gzip's bytes hold the time: no name for a test
)
def test_wrong_files(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    folder = lay(tmp_path / "set", {file: content})
    with pytest.raises(ValueError, match=message):
        data.load("fashion-mnist", folder)


def test_an_empty_data_set(tmp_path: Path) -> None:
    folder = lay(tmp_path / "set", {data.FILES[0]: idx(IMAGES[:0]), data.FILES[1]: idx(LABELS[:0])})
    with pytest.raises(ValueError, match=r"has no pixels: shape \[0, 3, 2\]"):
        data.load("fashion-mnist", folder)


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dataset must be one of 'digits', 'fashion-mnist', 'mnist', got 'cifar'"):
        data.load("cifar")
    with pytest.raises(ValueError, match=r"data_dir must be an existing folder, got .*missing"):
        data.load("mnist", tmp_path / "missing")
