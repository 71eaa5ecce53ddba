"""Published models by name, from a server of the test's own."""

from __future__ import annotations

import http.server
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from published import write_decoder
from small_models import make_model

from sketchrnn_fast import TrainConfig
from sketchrnn_fast.errors import UserError
from sketchrnn_fast.interop import published
from sketchrnn_fast.interop.errors import ModelFileError
from sketchrnn_fast.interop.imported import Imported
from sketchrnn_fast.interop.importing import import_model, read
from sketchrnn_fast.interop.magenta_checkpoint import write_checkpoint
from sketchrnn_fast.interop.sketch_rnn_js import write_model


class Served:
    """What the server has, and what was asked of it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    state = Served()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            content = state.files.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    host = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(published, "MAGENTA_ARCHIVE", f"{host}/models/sketch_rnn.zip")
    monkeypatch.setattr(published, "JS_MODELS", f"{host}/sketchRNN")
    monkeypatch.setattr(published, "cache_folder", lambda: tmp_path / "cache")
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def magenta_archive(folder: Path, root: str = "") -> bytes:
    """An archive as Magenta's: eight folders with a checkpoint each."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, name in enumerate(published.MAGENTA_MODELS):
            cell = "layer_norm" if "layer_norm" in name else "lstm"
            model = make_model(
                enc_model=cell,
                dec_model=cell,
                conditional=not name.endswith("uncond"),
                dec_rnn_size=8 + number,
            )
            config = TrainConfig(data_set=("aaron_sheep.npz",))
            write_checkpoint(Imported(model, config, number), folder / name)
            for file in sorted((folder / name).iterdir()):
                archive.write(file, f"{root}{name}/{file.name}")
    return stream.getvalue()


@pytest.mark.parametrize("root", ["", "sketch_rnn/"])
def test_each_model_of_magentas_archive_is_imported_by_name(
    served: Served, tmp_path: Path, root: str
) -> None:
    served.files["/models/sketch_rnn.zip"] = magenta_archive(tmp_path / "made", root)
    for number, name in enumerate(published.MAGENTA_MODELS):
        imported = read(f"magenta:{name}")
        assert imported.step == number
        assert imported.model.config.dec_rnn_size == 8 + number
        assert imported.model.config.conditional != name.endswith("uncond")
    assert read("magenta:owl").step == published.MAGENTA_MODELS.index("owl/lstm")
    assert served.asked == ["/models/sketch_rnn.zip"]  # once, then it is in the cache


def test_each_kind_of_sketch_rnn_js_is_imported_by_name(served: Served, tmp_path: Path) -> None:
    write_decoder(tmp_path / "small.json")
    write_model(make_model(num_mixture=20), tmp_path / "vae.json", name="cat")
    files = {
        "/sketchRNN/models/cat.gen.json": "small.json",
        "/sketchRNN/large_models/cat.gen.json": "small.json",
        "/sketchRNN/models/cat.vae.json": "vae.json",
        "/sketchRNN/models/yoga%20bicycle.gen.json": "small.json",
    }
    served.files = {path: (tmp_path / file).read_bytes() for path, file in files.items()}
    assert not read("sketch-rnn-js:cat").model.config.conditional
    assert not read("sketch-rnn-js:large/cat").model.config.conditional
    assert read("sketch-rnn-js:cat.vae").model.config.conditional
    assert not read("sketch-rnn-js:yoga bicycle.gen").model.config.conditional
    read("sketch-rnn-js:cat")
    assert served.asked == [
        "/sketchRNN/models/cat.gen.json",
        "/sketchRNN/large_models/cat.gen.json",
        "/sketchRNN/models/cat.vae.json",
        "/sketchRNN/models/yoga%20bicycle.gen.json",
    ]


def test_a_name_becomes_a_run_that_stands_there(served: Served, tmp_path: Path) -> None:
    served.files["/models/sketch_rnn.zip"] = magenta_archive(tmp_path / "made")
    import_model("magenta:catbus", tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "last").read_text() == "step-6\n"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("magenta:aaron_sheep", "names several of Magenta's models; they are aaron_sheep/lstm,"),
        ("magenta:dog", "magenta:dog names none of Magenta's models"),
        ("magenta:", "magenta: names none"),
        ("sketch-rnn-js:../cat", r"sketch-rnn-js:\.\./cat names no class"),
        ("sketch-rnn-js:Cat", "names no class; the form is sketch-rnn-js:cat"),
        ("sketch-rnn-js:cat.exe", "names no class"),
        ("sketch-rnn-js:cat", "cannot be downloaded: the server answers 404"),
        ("magenta:owl", "cannot be downloaded: the server answers 404"),
    ],
)
def test_a_name_that_cannot_be_had_is_one_sentence(
    served: Served, tmp_path: Path, name: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        import_model(name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_model_is_not_kept(served: Served, tmp_path: Path) -> None:
    for path in ("/models/sketch_rnn.zip", "/sketchRNN/models/cat.gen.json"):
        served.files[path] = b"<html>moved</html>"
    for name in ("magenta:owl", "sketch-rnn-js:cat"):
        with pytest.raises(UserError, match="sends is not what it must be"):
            read(name)
    assert not list((tmp_path / "cache").rglob("*.zip"))
    assert not list((tmp_path / "cache").rglob("*.gen.json"))
    served.files["/sketchRNN/models/cat.gen.json"] = write_decoder(tmp_path / "x").read_bytes()
    assert torch.isfinite(read("sketch-rnn-js:cat").model.output.linear.weight).all()


def archive_of(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return stream.getvalue()


def test_an_archive_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "_MOST_UNPACKED", 10**6)
    path = tmp_path / "bomb.zip"
    path.write_bytes(archive_of(**{"owl__lstm__vector.index": bytes(2 * 10**6)}))
    assert path.stat().st_size < 10**4
    with pytest.raises(ModelFileError, match="has 1 files of 2000000 bytes for owl/lstm"):
        published._unpack(path, "owl/lstm", tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "sly.zip"
    sly = {"..__..__owl__lstm__..__..__x": b"", "__owl__lstm__vector.index": b"a"}
    path.write_bytes(archive_of(**sly))
    (tmp_path / "in").mkdir()
    published._unpack(path, "owl/lstm", tmp_path / "in")
    assert [file.name for file in (tmp_path / "in").iterdir()] == ["vector.index"]
    assert {file.name for file in tmp_path.iterdir()} == {"sly.zip", "in"}


def test_a_damaged_archive_is_one_sentence(tmp_path: Path) -> None:
    content = bytearray(archive_of(**{"owl__lstm__vector.index": json.dumps([1] * 500).encode()}))
    content[60] ^= 0xFF
    path = tmp_path / "damaged.zip"
    path.write_bytes(bytes(content))
    with pytest.raises(ModelFileError, match="is no zip file, or it is damaged"):
        published._unpack(path, "owl/lstm", tmp_path)
