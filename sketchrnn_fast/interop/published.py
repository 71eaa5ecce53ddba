"""Published models by name: where they are, and how they come here.

    magenta:owl/lstm               a folder of Magenta's archive of models; `magenta:owl` if there
                                   is one of that name only
    sketch-rnn-js:cat              the decoder of a class; cat.vae is the model with encoder, and
                                   large/cat the larger decoder

No checksum of these files is known. What comes is checked for being a model before it is kept, and
nothing in it is executed. Of the archive only the files of the one model are unpacked, and no more
bytes than they can have.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from sketchrnn_fast.data.downloads import download
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.hershey import cache_folder
from sketchrnn_fast.interop import magenta_checkpoint, sketch_rnn_js
from sketchrnn_fast.interop.errors import ModelFileError

MAGENTA_ARCHIVE = "http://download.magenta.tensorflow.org/models/sketch_rnn.zip"
MAGENTA_MODELS = (
    "aaron_sheep/lstm",
    "aaron_sheep/lstm_uncond",
    "aaron_sheep/layer_norm",
    "aaron_sheep/layer_norm_uncond",
    "owl/lstm",
    "flamingo/lstm_uncond",
    "catbus/lstm",
    "elephantpig/lstm",
)
JS_MODELS = "https://storage.googleapis.com/quickdraw-models/sketchRNN"
FORMS = "magenta:NAME (as magenta:owl) or sketch-rnn-js:CLASS (as sketch-rnn-js:cat)"
_PREFIXES = ("magenta:", "sketch-rnn-js:")
_CLASS = re.compile(r"(large/)?([a-z0-9][a-z0-9_ -]*)(\.gen|\.vae)?")
# Of one model: Magenta's largest, with both of Adam's slots, has 60 MB of variables.
_MOST_UNPACKED = 1 << 30
_MOST_FILES = 1000


def is_name(source: str) -> bool:
    """Whether a source is the name of a published model, not a path."""
    return source.startswith(_PREFIXES)


@contextmanager
def fetched(name: str, cache_dir: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """Have a published model's file or folder at hand, downloaded into the cache if need be.

    Args:
        name: as at the head of this file.

    Raises:
        UserError: there is no such name, it cannot be downloaded, or it is no model.
        OSError: the cache cannot be written.
    """
    kind, _, model = name.partition(":")
    folder = (Path(cache_dir) if cache_dir is not None else cache_folder()) / "models"
    if kind == "magenta":
        with _unpacked(_magenta_name(model), folder) as path:
            yield path
    else:
        yield _javascript(model, folder)


def _magenta_name(name: str) -> str:
    found = [model for model in MAGENTA_MODELS if model == name or model.startswith(f"{name}/")]
    if len(found) != 1:
        several = "names several" if found else "names none"
        raise ModelFileError(
            f"magenta:{name} {several} of Magenta's models; they are {', '.join(MAGENTA_MODELS)}"
        )
    return found[0]


def _javascript(name: str, folder: Path) -> Path:
    match = _CLASS.fullmatch(name)
    if match is None:
        raise ModelFileError(
            f"sketch-rnn-js:{name} names no class; the form is sketch-rnn-js:cat, with .vae behind "
            "it for the model with encoder, or large/ before it"
        )
    is_large, kind = match[1] is not None, match[3] or ".gen"
    file = f"{match[2]}{kind}.json"
    path = folder / "sketch-rnn-js" / ("large_models" if is_large else "models") / file
    _have(f"{JS_MODELS}/{path.parent.name}/{quote(file)}", path, sketch_rnn_js.read_model)
    return path


@contextmanager
def _unpacked(name: str, folder: Path) -> Iterator[Path]:
    """One model of Magenta's archive in a folder of its own, for as long as the block lasts."""
    archive = folder / PurePosixPath(MAGENTA_ARCHIVE).name
    _have(MAGENTA_ARCHIVE, archive, _check_archive)
    with tempfile.TemporaryDirectory() as temporary:
        _unpack(archive, name, Path(temporary))
        yield Path(temporary)


def _have(url: str, path: Path, check: Callable[[Path], object]) -> None:
    """Download a file unless it is there; what `check` refuses is not kept."""
    if path.is_file():
        return

    def checked(part: Path) -> None:
        try:
            check(part)
        except ModelFileError as error:
            raise DatasetError(str(error)) from None

    path.parent.mkdir(parents=True, exist_ok=True)
    download(url, path, check=checked)


def _check_archive(path: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        _unpack(path, MAGENTA_MODELS[0], Path(temporary))
        magenta_checkpoint.find_prefix(Path(temporary))


def _unpack(archive: Path, name: str, folder: Path) -> None:
    """The files of one model, whatever folder the archive has them in, side by side."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [
                member
                for member in opened.infolist()
                if not member.is_dir()
                and f"/{PurePosixPath(member.filename).parent}".endswith(f"/{name}")
            ]
            size = sum(member.file_size for member in members)
            if not members or len(members) > _MOST_FILES or size > _MOST_UNPACKED:
                raise ModelFileError(
                    f"{archive} has {len(members)} files of {size} bytes for {name}; a model has "
                    f"1 to {_MOST_FILES}, of at most {_MOST_UNPACKED} bytes"
                )
            for member in members:
                target = folder / PurePosixPath(member.filename).name
                with opened.open(member) as stream, target.open("wb") as out:
                    shutil.copyfileobj(stream, out)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise ModelFileError(f"{archive} is no zip file, or it is damaged: {error}") from None
