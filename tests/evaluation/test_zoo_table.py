"""The published tables: every figure has a place, ours beside it, what is missing is named."""

from __future__ import annotations

import json
import re

import pytest

from vlpart.errors import DataError, EvaluationError, ModelNotFoundError
from vlpart.evaluation import zoo_table
from vlpart.evaluation.benchmarks import BENCHMARKS
from vlpart.evaluation.run import Options
from vlpart.evaluation.session import asked_with
from vlpart.evaluation.zoo_table import fill, published_cells, stored_figures, to_markdown, write_tables
from vlpart.zoo.catalogue import get_model, list_models


def test_every_published_figure_is_a_figure_of_a_benchmark():
    cells = published_cells()
    published = [value for e in list_models() if not e.embedded for r in e.published for value in r.metrics.values()]
    assert len(cells) == sum(len(value) if isinstance(value, tuple) else 1 for value in published)
    assert {cell.benchmark for cell in cells} == {"voc", "coco", "lvis", "partimagenet", "pascal_part", "paco"}
    assert all(cell.label in BENCHMARKS[cell.benchmark].headline for cell in cells)
    found = {(c.model, c.benchmark, c.label): c.published for c in cells}
    assert found["r50_lvis", "lvis", "APr"] == 20.8
    assert found["r50_paco", "paco", "parts AP50"] == 21.7
    assert found["r50_pascalpartbase", "pascal_part", "novel AP50"] == 3.7
    assert found["r50_pascalpartbase", "pascal_part", "dog paw AP50"] == 13.8
    assert found["r50_pascalpart", "partimagenet", "quadruped head AP"] == 17.4


def test_cells_of_some():
    cells = published_cells(["r50_voc"], ["voc"])
    assert [(c.label, c.published) for c in cells] == [("AP", 35.9), ("AP50", 69.7)]
    assert published_cells(["r50_voc"], ["coco"]) == ()
    with pytest.raises(ModelNotFoundError):
        published_cells(["r50_vox"])
    with pytest.raises(DataError, match="faces"):
        published_cells(None, ["faces"])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The data of VOC, and the weights of r50_voc and swinbase_cascade_voc."""
    data = tmp_path / "data" / "voc"
    (data / "VOCdevkit" / "VOC2007" / "JPEGImages").mkdir(parents=True)
    (data / "voc_2007_val.json").write_text("{}")
    monkeypatch.setattr(zoo_table, "weights_present", lambda entry: entry.name in ("r50_voc", "swinbase_cascade_voc"))
    return data.parent


def test_what_is_here_is_measured_once_and_the_rest_is_named(here, tmp_path):
    asked = []

    def evaluate(entry, benchmark):
        asked.append((entry.name, benchmark.name))
        if entry.name.startswith("swin"):
            raise EvaluationError("it broke")
        return {"AP": 0.35, "AP50": float("nan")}

    table = fill(published_cells(["r50_voc", "r50_coco", "swinbase_cascade_voc", "r50_lvis_paco"]), here, evaluate)
    assert asked == [("r50_voc", "voc"), ("swinbase_cascade_voc", "voc")]
    assert table.missing_weights == ("r50_coco", "r50_lvis_paco")
    assert "coco" in table.missing_data and "voc" not in table.missing_data
    assert table.failed == {"swinbase_cascade_voc on voc": "it broke"}
    found = {(c.model, c.benchmark, c.label): c for c in table.cells}
    mine = found["r50_voc", "voc", "AP"]
    assert (mine.ours, round(mine.difference, 6)) == (35.0, -0.9)
    assert found["r50_voc", "voc", "AP50"].missing == "not reported"
    assert found["r50_coco", "coco", "AP"].missing == "weights and data"
    assert found["r50_lvis_paco", "voc", "AP"].missing == "weights"
    assert found["swinbase_cascade_voc", "voc", "AP"].missing == "failed"
    text = to_markdown(table)
    assert "35.0 / 35.9 (-0.9)" in text and "– / 69.7" in text
    assert "* weights of `r50_coco`: `vlpart models download r50_coco`" in text
    assert "* data of `coco`: no coco/annotations" in text and "failed: it broke" in text
    markdown, plain = write_tables(table, tmp_path / "out")
    assert markdown.read_text() == text
    assert json.loads(plain.read_text())["missing"]["weights"] == ["r50_coco", "r50_lvis_paco"]
    with pytest.raises(EvaluationError):
        fill(published_cells(["swinbase_cascade_voc"]), here, evaluate, keep_going=False)


def test_earlier_evaluations_are_read(tmp_path):
    entry, benchmark = get_model("r50_voc"), BENCHMARKS["voc"]
    assert stored_figures(tmp_path, entry, benchmark) is None
    path = tmp_path / "r50_voc" / "voc" / "scores.json"
    path.parent.mkdir(parents=True)
    settings = asked_with(entry, benchmark, Options()) | {"overridden": []}
    path.write_text(json.dumps({"headline": {"AP": 0.5, "AP50": None}, "settings": settings}))
    stored = stored_figures(tmp_path, entry, benchmark)
    assert stored["AP"] == 0.5 and stored["AP50"] != stored["AP50"]
    path.write_text("{")
    with pytest.raises(EvaluationError, match="is damaged: delete it"):
        stored_figures(tmp_path, entry, benchmark)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"score_threshold": 0.5}, "score_threshold 0.5, now it would be 0.05"),
        ({"short_side": 400}, "short_side 400, now it would be 800"),
        ({"max_detections": 300}, "max_detections 300, now it would be 100"),
        ({"vocabulary": "coco"}, "vocabulary coco, now it would be voc"),
        ({"precision": "bf16"}, "precision bf16, now it would be auto"),
        ({"max_images": 5}, "max_images 5, now it would be None"),
        (None, "score_threshold None"),  # a file that does not say
    ],
)
def test_evaluations_with_other_settings_are_not_taken(tmp_path, changed, said):
    entry, benchmark, options = get_model("r50_voc"), BENCHMARKS["voc"], Options(key={"precision": "auto"})
    path = tmp_path / "r50_voc" / "voc" / "scores.json"
    path.parent.mkdir(parents=True)
    settings = None if changed is None else asked_with(entry, benchmark, options) | changed
    path.write_text(json.dumps({"headline": {"AP": 0.5}, "settings": settings}))
    with pytest.raises(EvaluationError, match=re.escape(said)):
        stored_figures(tmp_path, entry, benchmark, options)


def test_the_command_without_anything(command, tmp_path):
    code, out, _ = command("zoo", "table", "--model", "r50_voc", "-o", tmp_path / "zoo")
    assert code == 0
    assert "| `r50_voc` (Dataset-specific) | – / 35.9 | – / 69.7 |" in out
    assert "no data folder was given" in out
    assert (tmp_path / "zoo" / "zoo.json").is_file()


def test_a_data_folder_that_is_not_there_is_an_error(command, tmp_path):
    code, _, err = command("zoo", "table", "--data", tmp_path / "nosuch", "-o", tmp_path / "zoo")
    assert code == 1 and "there is no folder" in err and "--data" in err
    assert not (tmp_path / "zoo").exists()
