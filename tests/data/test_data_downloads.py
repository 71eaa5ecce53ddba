"""Downloads from a server that breaks off, lies and changes its mind."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sketchrnn_fast.data import DatasetError, downloads, load, registry, write_npz
from sketchrnn_fast.data.quickdraw_classes import QUICKDRAW_CLASSES

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Behaviour:
    """What the server does, request by request; the last entry of a list goes on for ever."""

    content: bytes = CONTENT
    send: list[int] = field(default_factory=lambda: [10**9])  # bytes before it breaks off
    claim: int | None = None  # Content-Length, whatever is sent
    ranges: bool = True
    shifted: bool = False  # answers with another range
    etag: str | None = '"one"'
    status: list[int] = field(default_factory=lambda: [200])
    seen: list[tuple[str, str | None]] = field(default_factory=list)

    def turn(self, values: list[int]) -> int:
        return values[min(len(self.seen) - 1, len(values) - 1)]


class Handler(BaseHTTPRequestHandler):
    behaviour: Behaviour

    def do_GET(self) -> None:
        it = self.behaviour
        asked = self.headers.get("Range")
        it.seen.append((unquote(self.path), asked))
        status = it.turn(it.status)
        if status != 200:
            self.send_error(status)
            return
        start, total = 0, len(it.content)
        same = self.headers.get("If-Range") in (None, it.etag)
        if asked and it.ranges and same:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = max(0, start - 5) if it.shifted else start
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        if it.etag:
            self.send_header("ETag", it.etag)
        body = it.content[start:]
        self.send_header("Content-Length", str(len(body) if it.claim is None else it.claim))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body[: it.turn(it.send)])
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


Serve = Callable[..., tuple[str, Behaviour]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that behaves so; gives its address and what it has seen."""
    servers = []

    def start(**behaviour: object) -> tuple[str, Behaviour]:
        it = Behaviour(**behaviour)  # type: ignore[arg-type]
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"behaviour": it}))
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/file", it

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def get(url: str, path: Path, **options: object) -> None:
    options.setdefault("sha256", SHA256)
    downloads.download(url, path, pause=0.0, **options)  # type: ignore[arg-type]


def test_a_file_arrives_whole_and_progress_is_told(serve, tmp_path):
    url, it = serve()
    steps = []
    get(url, tmp_path / "a", progress=lambda done, total: steps.append((done, total)))
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert it.seen == [("/file", None)]
    assert steps[0] == (0, len(CONTENT))
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.part.lock", "a"]


def test_a_connection_that_drops_is_taken_up_where_it_broke_off(serve, tmp_path):
    url, it = serve(send=[100_000, 0, 1, 50_000, 70_000, 10**9])
    get(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    starts = [0 if asked is None else int(asked[6:-1]) for _, asked in it.seen]
    assert starts == [0, 100_000, 100_000, 100_001, 150_001, 220_001]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(serve, tmp_path):
    url, it = serve(send=[100_000, 0])
    with pytest.raises(DatasetError, match="100000 bytes are kept, and the same call goes on"):
        get(url, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    it.send, it.seen[:] = [10**9], []
    get(url, tmp_path / "a")
    assert it.seen == [("/file", "bytes=100000-")]
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("behaviour", [{"ranges": False}, {"etag": None}])
def test_without_ranges_it_begins_again(serve, tmp_path, behaviour):
    url, _ = serve(send=[100_000, 10**9], **behaviour)
    get(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_fetched_anew(serve, tmp_path):
    url, it = serve(content=b"x" * 200_000, send=[50_000, 0])
    with pytest.raises(DatasetError, match="cannot be downloaded"):
        get(url, tmp_path / "a")
    it.content, it.etag, it.send = CONTENT, '"two"', [10**9]
    get(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_another_range_than_was_asked_for_is_not_glued_on(serve, tmp_path):
    url, _ = serve(send=[100_000, 10**9], shifted=True)
    get(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_part_that_is_complete_already_is_recognized(serve, tmp_path):
    url, it = serve(send=[100_000, 0])
    with pytest.raises(DatasetError):
        get(url, tmp_path / "a")
    (tmp_path / ".a.part").write_bytes(CONTENT)
    it.seen[:] = []
    get(url, tmp_path / "a")
    assert it.seen == [("/file", f"bytes={len(CONTENT)}-")]
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("claim", "sentence"),
    [
        (len(CONTENT) + 1000, "cannot be downloaded: the connection broke off"),
        (len(CONTENT) - 1000, "is another file than it was: its SHA-256 is"),
        (1 << 60, "claims 1152921504606846976 bytes; at most"),
    ],
)
def test_a_server_that_lies_about_the_length_leaves_no_file(serve, tmp_path, claim, sentence):
    url, _ = serve(claim=claim, etag=None)
    with pytest.raises(DatasetError, match=sentence):
        get(url, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_wrong_file_is_refused_forgotten_and_the_old_one_kept(serve, tmp_path):
    url, _ = serve(content=b"an error page that says 200")
    (tmp_path / "a").write_text("old")
    with pytest.raises(DatasetError, match=f"its SHA-256 is [0-9a-f]{{64}}, not {SHA256}"):
        get(url, tmp_path / "a")
    assert (tmp_path / "a").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.part.lock", "a"]


def test_trouble_of_the_server_is_waited_out_but_not_a_refusal(serve, tmp_path):
    url, it = serve(status=[503, 429, 200])
    get(url, tmp_path / "a")
    assert len(it.seen) == 3
    url, it = serve(status=[404])
    with pytest.raises(DatasetError, match="the server answers 404 Not Found"):
        get(url, tmp_path / "b")
    assert len(it.seen) == 1


def test_without_any_answer_it_is_tried_once_more_and_with_one_again_and_again(
    serve, tmp_path, monkeypatch
):
    pauses: list[float] = []
    monkeypatch.setattr(downloads.time, "sleep", pauses.append)
    with pytest.raises(DatasetError, match="refused"):
        get("http://127.0.0.1:9/x", tmp_path / "a")
    assert len(pauses) == 1
    url, it = serve(send=[100_000, 0])
    with pytest.raises(DatasetError, match="bytes are kept"):
        get(url, tmp_path / "a")
    assert len(it.seen) == 6


def test_no_server_is_one_clear_sentence(tmp_path):
    with pytest.raises(DatasetError, match=r"cannot be downloaded: .*refused$"):
        get("http://127.0.0.1:9/x", tmp_path / "a")
    with pytest.raises(DatasetError, match="is no http or https address"):
        get("file:///etc/passwd", tmp_path / "a")


def test_two_processes_do_not_write_one_file(serve, tmp_path):
    fcntl = pytest.importorskip("fcntl")  # Windows has none
    url, _ = serve()
    with (tmp_path / ".a.part.lock").open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(DatasetError, match="another process is downloading a"):
            get(url, tmp_path / "a")


# --------------------------------------------------------------------------------------------
# By name


def square(k):
    return np.array([[k, 0, 0], [0, k, 0], [-k, 0, 0], [0, -k, 1]], np.int16)


@pytest.fixture
def published(serve, tmp_path, monkeypatch) -> tuple[Behaviour, Path]:
    """`cat` is served from here, with a checksum if the test gives one; and a cache."""
    splits = {split: [square(k + 1) for k in range(5)] for split in ("train", "valid", "test")}
    write_npz(tmp_path / "cat.npz", splits)
    url, it = serve(content=(tmp_path / "cat.npz").read_bytes())
    dataset = registry.PublishedDataset("cat", url, "CC BY 4.0", "cats")
    monkeypatch.setitem(registry.DATASETS, "cat", dataset)
    return it, tmp_path / "cache"


def test_a_fetched_dataset_is_found_by_its_name(published, tmp_path):
    it, cache = published
    with pytest.raises(
        DatasetError, match=r"the dataset cat is not in the cache.*data fetch 'cat'"
    ):
        load(["cat"], tmp_path / "nowhere", cache_dir=cache)
    path, is_new = downloads.fetch("cat", cache)
    assert is_new
    assert path == cache / "datasets" / "cat.npz"
    assert downloads.fetch("cat", cache) == (path, False)
    assert len(it.seen) == 1
    by_name, by_file = load(["cat"], cache_dir=cache), load(["cat.npz"], tmp_path)
    assert by_name.scale_factor == by_file.scale_factor
    assert_array_equal(by_name.train[0], by_file.train[0])


def test_what_is_no_dataset_is_not_kept_even_without_a_checksum(published):
    it, cache = published
    it.content = b"<html>sign in</html>"
    with pytest.raises(
        DatasetError, match=r"what http.* sends is not what it must be: .*not an npz"
    ):
        downloads.fetch("cat", cache)
    assert not (cache / "datasets" / "cat.npz").exists()


def test_a_damaged_cached_file_is_fetched_again(published):
    _, cache = published
    path, _ = downloads.fetch("cat", cache)
    content = path.read_bytes()
    path.write_bytes(content[:50])
    assert downloads.fetch("cat", cache) == (path, True)
    assert path.read_bytes() == content


def test_a_name_that_is_almost_right_is_answered_with_the_right_one(tmp_path):
    with pytest.raises(
        DatasetError, match=r"no published dataset 'aaron_shep'; did you mean aaron_s"
    ):
        downloads.fetch("aaron_shep", tmp_path)
    with pytest.raises(DatasetError, match="no published dataset 'qqqq'; data list names them"):
        downloads.fetch("qqqq", tmp_path)


def test_the_registry_knows_the_published_files_by_their_checksums(real_data):
    for file in real_data.glob("*.npz"):
        dataset = registry.DATASETS[file.stem]
        content = file.read_bytes()
        assert dataset.sha256 == hashlib.sha256(content).hexdigest()
        assert dataset.size == len(content)


def test_the_registry_names_every_class_of_quickdraw(real_data):
    assert len(QUICKDRAW_CLASSES) == len(set(QUICKDRAW_CLASSES)) == 345
    assert len(registry.DATASETS) == 345 + 6
    assert {file.stem for file in (real_data / "quickdraw_raw").iterdir()} <= {*QUICKDRAW_CLASSES}
    address = registry.DATASETS["The Mona Lisa"].url
    assert address.endswith("/quickdraw_dataset/sketchrnn/The%20Mona%20Lisa.npz")
