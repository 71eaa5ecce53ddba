"""What an installation contains, and that each way of installing gives a working package.

The installations are real: fresh virtual environments, isolated builds.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import sketchrnn_fast
from sketchrnn_fast import _native

PACKAGE = Path(sketchrnn_fast.__file__).parent
ROOT = Path(__file__).parents[1]
SHIPPED = ("py.typed", "_native.pyi", "kernels/__init__.py")


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="a developer may test the source tree")
def test_the_tests_run_against_the_installed_package() -> None:
    assert PACKAGE.parent == Path(sysconfig.get_path("platlib"))


def test_every_place_that_names_the_version_agrees() -> None:
    version = importlib.metadata.version("sketchrnn-fast")
    assert sketchrnn_fast.__version__ == version
    assert _native.build_report()["version"] == version


@pytest.mark.parametrize("name", SHIPPED)
def test_the_package_ships(name: str) -> None:
    assert (PACKAGE / name).is_file()


def test_import_does_not_import_triton(tmp_path: Path) -> None:
    program = "import sketchrnn_fast, sys; sys.exit('triton' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


def run(*command: str | Path, cwd: Path) -> str:
    """The output of a command; on failure all that it printed is in the test's report."""
    result = subprocess.run(
        command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def source_copy(folder: Path) -> Path:
    """The tracked and new files of the repository, without what was built in it."""
    copy = folder / "source"
    names = run("git", "ls-files", "-z", "-co", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, names):
        source, target = ROOT / name, copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
        elif source.exists():
            target.write_bytes(source.read_bytes())
    return copy


def fresh_environment(folder: Path) -> Path:
    """A virtual environment's interpreter, with this one's packages except the package itself.

    The dependencies are linked, not installed again: PyTorch is large.
    """
    environment = folder / "environment"
    run(sys.executable, "-m", "venv", environment, cwd=folder)
    python = environment / "bin" / "python"
    dependencies = folder / "dependencies"
    dependencies.mkdir()
    for scheme in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(scheme).iterdir():
            if not entry.name.lower().startswith(("sketchrnn_fast", "__editable__", "pip")):
                (dependencies / entry.name).symlink_to(entry)
    location = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
    )
    Path(location.strip(), "dependencies.pth").write_text(f"{dependencies}\n")
    return python


def assert_works(python: Path, folder: Path) -> Path:
    """Imports the installed package and its native module; returns where the package is."""
    program = """
import json, sketchrnn_fast, sketchrnn_fast.kernels
from importlib.metadata import version
from sketchrnn_fast import _native
print(json.dumps([sketchrnn_fast.__file__, _native.build_report()["version"],
                  version("sketchrnn-fast")]))
"""
    output = run(python, "-c", program, cwd=folder)
    package_file, native_version, version = json.loads(output.splitlines()[-1])
    assert native_version == version
    return Path(package_file).parent


@pytest.mark.slow
def test_a_wheel_made_from_the_sdist_works(tmp_path: Path) -> None:
    source = source_copy(tmp_path)
    # Without further options `build` makes the sdist, then the wheel from that sdist.
    run(sys.executable, "-m", "build", "--outdir", tmp_path / "dist", source, cwd=tmp_path)

    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert all(member.isfile() or member.isdir() for member in archive)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for shipped in SHIPPED:
        assert f"sketchrnn_fast/{shipped}" in names
    assert any(name.endswith("/LICENSE") for name in names)
    assert any(name.endswith("/NOTICE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"sketchrnn_fast"}

    python = fresh_environment(tmp_path)
    run(python, "-m", "pip", "install", "--no-deps", wheel, cwd=tmp_path)
    assert assert_works(python, tmp_path).is_relative_to(tmp_path / "environment")


@pytest.mark.slow
def test_an_editable_installation_works(tmp_path: Path) -> None:
    source = source_copy(tmp_path)
    python = fresh_environment(tmp_path)
    run(python, "-m", "pip", "install", "--no-deps", "--editable", source, cwd=tmp_path)
    assert assert_works(python, tmp_path) == source / "sketchrnn_fast"


@pytest.mark.slow
def test_a_plain_installation_says_what_it_does_about_cuda(tmp_path: Path) -> None:
    source = source_copy(tmp_path)
    python = fresh_environment(tmp_path)
    output = run(python, "-m", "pip", "install", "--no-deps", "-v", source, cwd=tmp_path)
    (line,) = (line for line in output.splitlines() if "-- sketchrnn-fast: " in line)
    assert "CUDA" in line
    assert_works(python, tmp_path)
