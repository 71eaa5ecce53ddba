"""What docs/models.md and examples/ show works as it stands there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published import write_decoder
from small_models import make_model

from sketchrnn_fast import TrainConfig
from sketchrnn_fast.interop.exporting import FORMS
from sketchrnn_fast.interop.imported import Imported
from sketchrnn_fast.interop.magenta_checkpoint import write_checkpoint
from sketchrnn_fast.interop.onnx_export import write_onnx
from sketchrnn_fast.interop.published import MAGENTA_MODELS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def test_every_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_decoder(Path("bear.gen.json"))
    write_checkpoint(Imported(make_model(), TrainConfig(), 5), Path("sheep/lstm"))
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, Any] = {}
    exec(blocks[0], names)
    assert names["step"] == 5
    assert not names["decoder"].config.conditional
    exec(blocks[1], names)
    assert names["again"].config == names["model"].config


def test_every_format_and_published_model_is_named() -> None:
    for name in (*FORMS, *MAGENTA_MODELS):
        assert f"`{name}`" in PAGE


@pytest.mark.parametrize("conditional", [True, False])
def test_the_example_draws_with_onnxruntime_alone(tmp_path: Path, conditional: bool) -> None:
    model = make_model(conditional=conditional)
    model.scale_factor.fill_(20.0)
    write_onnx(model, tmp_path / "exported")
    program = (
        "import runpy, sys\n"
        f"runpy.run_path({str(ROOT / 'examples' / 'draw_with_onnx.py')!r}, run_name='__main__')\n"
        "assert not {'torch', 'sketchrnn_fast'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "exported", "6"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    drawings = json.loads(done.stdout)
    assert len(drawings) == 6
    lengths = [sum(map(len, lines)) for lines in drawings]
    assert 1 < np.mean(lengths) <= model.config.max_seq_len
    points = [point for lines in drawings for line in lines for point in line]
    assert np.isfinite(points).all()
    assert np.std(points) > 1  # in data units
