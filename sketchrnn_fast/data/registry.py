"""Published datasets by name: where they are, what may be done with them, how they are told apart.

The SHA-256 of a file stands here where the file itself was at hand; of the others none is known,
and what is downloaded is only checked for being a dataset.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sketchrnn_fast.data.hershey import cache_folder
from sketchrnn_fast.data.quickdraw_classes import QUICKDRAW_CLASSES

_MAGENTA = "https://github.com/hardmaru/sketch-rnn-datasets/raw/master"
_QUICKDRAW = "https://storage.googleapis.com/quickdraw_dataset/sketchrnn"


@dataclass(frozen=True)
class PublishedDataset:
    """A dataset that somebody publishes.

    Attributes:
        name: what `data_set` calls it.
        url: of the `.npz`.
        licence: under which it is published.
        about: what it holds, in a few words.
        sha256: of the file, lower case; None where it is not known.
        size: bytes of the file; None where it is not known.
    """

    name: str
    url: str
    licence: str
    about: str
    sha256: str | None = None
    size: int | None = None


_KANJI = "CC BY-SA 3.0, KanjiVG, © Ulrich Apel"

_NAMED = (
    PublishedDataset(
        "aaron_sheep",
        f"{_MAGENTA}/aaron_sheep/aaron_sheep.npz",
        "CC BY-NC 4.0 (not for commercial use), © 2006 Aaron Koblin",
        "8,000 sheep of The Sheep Market, Magenta's default",
        "65f8e51e43587661798ac137a204c9e049e0d11dcd50cba372ae3ca32de8b54c",
        2_287_653,
    ),
    PublishedDataset(
        "omniglot",
        f"{_MAGENTA}/omniglot/omniglot.npz",
        "that of the Omniglot repository, © 2015 Brenden Lake",
        "32,000 characters of 50 alphabets",
        "bd5277621a8c577919491dfa729a59a8b5c216cff9e4fda9cef532db29f120c7",
        2_280_239,
    ),
    PublishedDataset(
        "short_kanji",
        f"{_MAGENTA}/kanji/short_kanji.npz",
        _KANJI,
        "11,100 kanji, coarse, int16",
        "f6855ba03d58f44830499dd98e7cb99f46c970651f4f16f2d886398f34709914",
        1_439_856,
    ),
    PublishedDataset(
        "kanji.rdp25",
        f"{_MAGENTA}/kanji/kanji.rdp25.npz",
        _KANJI,
        "11,458 kanji, simplified with ε 0.25",
    ),
    PublishedDataset(
        "kanji.rdp100",
        f"{_MAGENTA}/kanji/kanji.rdp100.npz",
        _KANJI,
        "11,458 kanji, simplified with ε 1",
        "d625d310f3132ab3b7fa9bb574d8c8201e18a51d92fdcd4b4f783b5a7730d58a",
        3_855_543,
    ),
    PublishedDataset(
        "kanji.rdp200",
        f"{_MAGENTA}/kanji/kanji.rdp200.npz",
        _KANJI,
        "11,458 kanji, simplified with ε 2",
        "64d6775231d7868be190efba7886129d41d15e77d5a86751de0613a01623478c",
        3_257_475,
    ),
)


def _quickdraw(name: str) -> PublishedDataset:
    return PublishedDataset(
        name,
        f"{_QUICKDRAW}/{quote(name)}.npz",
        "CC BY 4.0, Google",
        "75,000 drawings of Quick, Draw!",
    )


DATASETS: dict[str, PublishedDataset] = {
    dataset.name: dataset for dataset in (*_NAMED, *map(_quickdraw, QUICKDRAW_CLASSES))
}


def find(name: str) -> PublishedDataset | None:
    """The dataset of this name, if there is one."""
    return DATASETS.get(name)


def similar(name: str) -> list[str]:
    """Names that look like this one, at most three."""
    import difflib

    return difflib.get_close_matches(name, DATASETS, n=3)


def cached(dataset: PublishedDataset, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where the file is, or would be, in the cache."""
    folder = Path(cache_dir) if cache_dir is not None else cache_folder()
    return folder / "datasets" / f"{dataset.name}.npz"
