"""The benchmarks of `test_ops.py`: threads and sizes, as bench/run.py has them."""

from __future__ import annotations

import layers
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--sizes",
        choices=("small", "decoder"),
        default="small",
        help="of the benchmarks in bench/: small ones, or those of the whole model's decoder",
    )


@pytest.fixture
def sizes(request: pytest.FixtureRequest) -> layers.Sizes:
    chosen = request.config.getoption("--sizes")
    return layers.DECODER if chosen == "decoder" else layers.SMALL
