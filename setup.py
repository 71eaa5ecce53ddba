"""Builds the native module with CMake; everything else about the package is in pyproject.toml."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


class CMakeBuild(build_ext):
    """Configures with CMake and ninja, builds, and puts the module where setuptools wants it.

    The environment variable CMAKE_ARGS adds arguments to the configuration.
    """

    def build_extension(self, ext: Extension) -> None:
        import pybind11  # comes with the build environment, which not every command has

        build = Path(self.build_temp).resolve()
        target = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        # --fresh forgets the paths of an earlier isolated environment and keeps the objects.
        configure = ["cmake", "--fresh", "-G", "Ninja", "-S", ROOT, "-B", build]
        configure += [
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", build], check=True)
        subprocess.run(["cmake", "--install", build, "--prefix", target], check=True)


setup(
    ext_modules=[Extension("sketchrnn_fast._native", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
