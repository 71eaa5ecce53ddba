"""`sketchrnn-fast data …` as a user types it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawings import TINY_MODEL
from quickdraw_files import write_bin, write_ndjson

from sketchrnn_fast.data import open_store, registry, write_npz

TINY = [f"--{name}={value}" for name, value in TINY_MODEL.items()]


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    shapes = [[([0, k, 20, 0], [0, 5, k, 9])] for k in range(30, 90)]
    write_bin(folder / "cat.bin", shapes)
    write_ndjson(folder / "dog.ndjson", shapes[:40], "dog")
    return folder


def test_drawings_become_a_store_that_trains(command, drawings: Path, tmp_path: Path) -> None:
    code, out, err = command(
        *("data", "convert", drawings, "--out", tmp_path / "set", "--valid", 10, "--test", "0.1")
    )
    assert (code, err) == (0, "")
    assert f"80/10/10 sketches of 2 classes: {tmp_path / 'set'}" in out
    code, out, err = command("data", "inspect", tmp_path / "set", "--picture", tmp_path / "a.svg")
    assert (code, err) == (0, "")
    assert "train: 80 of 4 to 4 points, mean 4.0" in out
    assert "2 classes: cat 60, dog 40" in out
    assert (tmp_path / "a.svg").read_text().count("<path") == 64
    code, out, err = command("data", "validate", tmp_path / "set")
    assert (code, out, err) == (0, "no problems\n", "")
    log_root = tmp_path / "run"
    hparams = "data_set=[set],batch_size=8,num_steps=2,save_every=2"
    places = ("--data_dir", tmp_path, "--log_root", log_root)
    code, out, err = command("train", *TINY, *places, "--hparams", hparams)
    assert (code, err) == (0, "")
    assert "done: 2 steps" in out
    code, out, err = command("evaluate", log_root, "--data_dir", tmp_path)
    assert (code, err) == (0, "")


def test_options_reach_the_conversion(command, drawings: Path, tmp_path: Path) -> None:
    write_bin(drawings / "long.bin", [[(list(range(0, 200, 2)), [0] * 100)]] * 2)
    arguments = ("data", "convert", drawings, "--out", tmp_path / "set", "--deduplicate")
    code, out, _ = command(*arguments, "--simplify=all", "--max-points=50", "--min-points=3")
    assert code == 0
    assert "left out: 2 sketches that have fewer than 3 points" in out
    options = open_store(tmp_path / "set").provenance["options"]
    assert options["deduplicate"] is True
    assert options["simplification"] == {"size": 255.0, "spacing": 1.0, "epsilon": 2.0}


def test_bad_drawings_end_with_one_sentence_and_validate_names_them(
    command, drawings: Path, tmp_path: Path
) -> None:
    with (drawings / "dog.ndjson").open("a") as stream:
        stream.write("{}\n7\n")
    code, out, err = command("data", "convert", drawings, "--out", tmp_path / "set")
    assert code == 2
    assert out == ""
    assert "error: " in err
    assert "dog.ndjson, line 41, has no list drawing, lines or strokes" in err
    code, out, err = command("data", "validate", drawings)
    assert code == 1
    assert [line.split(" has ")[0].rpartition("/")[2] for line in out.splitlines()] == [
        "dog.ndjson, line 41,",
        "dog.ndjson, line 42,",
    ]
    code, out, err = command("data", "convert", drawings, "--out", tmp_path / "set", "--skip-bad")
    assert (code, err) == (0, "")
    assert "left out: 2 sketches that cannot be read" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--valid", "many"), "valid is 'many'; it takes a count, such as 2500, or a share"),
        (("--valid", "1.5"), "valid is 1.5; it takes a count"),
        (("--simplify", "no"), "simplify is 'no'; it takes auto, all or none"),
        (("--epsilon", "-1"), "epsilon is -1.0; it must be 0 or more"),
    ],
)
def test_options_that_cannot_be_end_with_one_sentence(
    command, drawings: Path, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    code, out, err = command("data", "convert", drawings, "--out", tmp_path / "set", *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert not (tmp_path / "set").exists()


def test_list_shows_names_licences_and_what_is_fetched(command, tmp_path: Path) -> None:
    code, out, _ = command("data", "list", "--cache-dir", tmp_path)
    assert code == 0
    assert len(out.splitlines()) == 1 + 351
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "owl.npz").write_bytes(b"")
    code, out, _ = command("data", "list", "owl", "aaron", "--cache-dir", tmp_path)
    assert code == 0
    lines = {line.split(":")[0]: line for line in out.splitlines()}
    assert "CC BY-NC 4.0 (not for commercial use)" in lines["aaron_sheep"]
    assert lines["owl"].endswith("CC BY 4.0, Google; no checksum known; fetched")
    assert command("data", "list", "nothing-like-this")[0] == 1


def test_a_dataset_in_the_cache_trains_by_its_name(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKETCHRNN_FAST_CACHE", str(tmp_path))
    square = np.array([[0, 9, 0], [9, 0, 0], [0, -9, 1]], np.int16)
    path = registry.cached(registry.DATASETS["The Mona Lisa"])
    path.parent.mkdir()
    write_npz(path, dict.fromkeys(("train", "valid", "test"), [square] * 8))
    hparams = "batch_size=4,num_steps=1"
    arguments = ("--data_set", "The Mona Lisa", "--log_root", tmp_path / "run")
    code, _, err = command("train", *TINY, *arguments, "--hparams", hparams)
    assert (code, err) == (0, "")
    code, out, err = command("data", "fetch", "The Mona Lisa")
    assert (code, err) == (0, "")
    assert out == f"The Mona Lisa is there (CC BY 4.0, Google): {path}\n"


def test_fetching_what_does_not_exist_says_what_does(command) -> None:
    code, out, err = command("data", "fetch", "shep")
    assert (code, out) == (2, "")
    assert "there is no published dataset 'shep'; did you mean sheep" in err
