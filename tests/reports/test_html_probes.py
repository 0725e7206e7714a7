import json
import re

import pytest

from avjepa.errors import DataError
from avjepa.reports.html_probes import probe_card, probe_section
from avjepa.reports.tables import lower_is_better
from tests.reports.pages import NEAR, RECORD, Page, write_probe
from tools.report import read_probe, read_probes


def result_of(folder, **changes):
    return read_probe(write_probe(folder, **changes) / "record.json")


def section_of(folder, **changes) -> str:
    return probe_section([result_of(folder, **changes)])


def one_table(*rows: tuple[str, list[float]], column: str = "IoU") -> dict:
    return {"columns": {"m": column}, "results": {"near": {row: {"m": values} for row, values in rows}}}


def best_cells(html: str) -> list[str]:
    return re.findall(r'<td class="best">([^<]*)</td>', html)


def test_columns_say_which_way_is_better():
    assert lower_is_better("CD, m ↓")
    assert not lower_is_better("IoU ↑")
    assert not lower_is_better("IoU")


def test_the_best_of_each_column_is_bold(tmp_path):
    assert best_cells(section_of(tmp_path)) == ["0.700", "0.300 ± 0.000"]


def test_ties_are_both_bold_and_what_is_not_defined_is_never(tmp_path):
    rows = (
        ("a", [0.5]),
        ("b", [0.5]),
        ("c", [float("nan")]),
        ("d", [0.9, float("nan")]),
        ("e", []),
        ("f", [float("inf")]),
    )
    html = section_of(tmp_path, **one_table(*rows))
    assert best_cells(html) == ["0.500", "0.500"]
    assert html.count("<td>-</td>") == 4
    assert best_cells(section_of(tmp_path, **one_table(("a", [float("nan")])))) == []


def test_a_metric_that_a_row_lacks_is_a_dash(tmp_path):
    made = Page(section_of(tmp_path, results={"near": {"last seen": {"iou": [0.7]}}}))
    assert "last seen 0.700 -" in made.text


def test_rows_of_the_pretrained_encoder_are_tinted(tmp_path):
    assert re.findall(r"<tr class=ours><td>([^<]*)", section_of(tmp_path)) == ["JEPA, conv head"]


def test_a_shorter_distance_is_the_gain(tmp_path):
    rows = ("JEPA, x head", [0.2, 0.21]), ("random init, x head", [0.5, 0.51]), ("raw input, x head", [0.1, 0.11])
    html = section_of(tmp_path, **one_table(*rows, column="CD ↓"))
    assert "JEPA, x head, CD ↓: gain against random init, loss against raw input</li>" in html
    html = section_of(tmp_path, **one_table(*rows))
    assert "JEPA, x head, IoU: loss against random init, gain against raw input</li>" in html


def test_rows_are_held_against_the_same_head_and_labels(tmp_path):
    rows = (
        ("JEPA, a head, 10 % of labels", [0.2]),
        ("random init, a head, 10 % of labels", [0.1]),
        ("JEPA, a head", [0.3]),
        ("random init, a head", [0.4]),
        ("random init, b head", [0.0]),
        ("JEPA, b head", [float("nan")]),
    )
    html = section_of(tmp_path, **one_table(*rows))
    assert re.findall("<li>(.*?)</li>", html) == [
        "JEPA, a head, 10 % of labels, IoU: gain against random init (one seed: spread not known)",
        "JEPA, a head, IoU: loss against random init (one seed: spread not known)",
    ]


def test_the_card_is_of_all_labels_and_the_first_split(tmp_path):
    rows = ("JEPA, a head, 10 % of labels", [0.2]), ("JEPA, a head", [0.3, 0.5]), ("raw input, a head", [0.6])
    value, words = probe_card(result_of(tmp_path, **one_table(*rows)))
    assert value == pytest.approx(0.4)
    assert words == "BEV occupancy, near: IoU, JEPA, a head; raw input 0.600"
    assert probe_card(result_of(tmp_path, **one_table(("last seen", [0.5])))) is None


@pytest.mark.parametrize(("overlap", "warned"), [(0.0, False), (0.05, False), (0.051, True), (1.0, True)])
def test_a_leaky_split_is_warned_of(tmp_path, overlap, warned):
    made = Page(section_of(tmp_path, split={"near": {"train_scenes": ["a"] * 700, "overlap_share_5m": overlap}}))
    assert f"train scenes, 700; {overlap:.1%} of the test frames within 5 m" in made.text
    assert ("Warning: the overlap is above 5%" in made.text) == warned


def test_an_overlap_that_was_not_recorded_is_missed(tmp_path):
    assert "overlap with training is not recorded" in section_of(tmp_path, split={})


def test_tasks_come_in_order_each_with_its_question(tmp_path):
    for number, task in enumerate(
        ("zebra_crossings", "moving_parked", "dynamic", "map", "alpha", "forecasting", "bev_occupancy", "occupancy")
    ):
        write_probe(tmp_path / str(number), task=task, results={"near": NEAR, "far": NEAR})
    (tmp_path / "embeddings").mkdir()
    html = probe_section(read_probes(tmp_path))
    assert re.findall("<h3>(.*?)</h3>", html) == [
        "3-D occupancy",
        "BEV occupancy",
        "Forecasting",
        "Map segmentation and completion",
        "Dynamic filtering",
        "Moving or parked",
        "alpha",
        "zebra crossings",
    ]
    assert len(re.findall("</h3><p>[^<]{40,}</p><h4>", html)) == 6
    assert html.count("<h4>near</h4>") == html.count("<h4>far</h4>") == 8
    assert Page(html).tags.count("img") == 16


def test_a_split_without_its_picture(tmp_path):
    write_probe(tmp_path, results={"near": NEAR, "other_city": NEAR})
    (tmp_path / "near.png").unlink()
    made = Page(probe_section([read_probe(tmp_path / "record.json")]))
    assert "No near.png beside the record" in made.text
    assert "other city" in made.text
    assert made.tags.count("img") == 1


def test_the_name_of_a_split_does_not_lead_out_of_the_folder(tmp_path):
    write_probe(tmp_path / "other")
    made = Page(section_of(tmp_path / "probe", results={"../other/near": NEAR, str(tmp_path / "other" / "near"): NEAR}))
    # Pictures that write_probe made under these names lie outside, and only those in the folder are looked at.
    assert "img" not in made.tags


@pytest.mark.parametrize(
    "changes",
    [
        {"results": {}},
        {"results": NEAR},  # of before there were splits
        {"results": {"near": {}}},
        {"results": {"near": {"row": {"iou": ["x"]}}}},
        {"results": {"near": {"row": {"iou": 0.5}}}},
        {"columns": {}},
        {"columns": ["iou"]},
        {"columns": {"iou": 1}},
        {"task": None},
        {"convention": 1},
        {"split": {"near": {"overlap_share_5m": "none"}}},
        {"split": {"near": {"test_scenes": "scene-0103"}}},
        {"split": ["near"]},
    ],
)
def test_damaged_records(tmp_path, changes):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "record.json").write_text(json.dumps({**RECORD, **changes}))
    with pytest.raises(DataError, match=r"task/record\.json: not a record of this tools/probe\.py"):
        read_probes(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "", "3"])
def test_files_that_are_no_record(tmp_path, content):
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(DataError, match=r"record\.json: (damaged|not a record)"):
        read_probe(tmp_path / "record.json")
