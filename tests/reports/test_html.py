import json
from urllib.parse import unquote

import pytest
import torch

from avjepa.cli import run_tool
from avjepa.errors import DataError
from avjepa.reports.html import page
from tests.reports.pages import CONFIG, TEST_CLIPS, Page, write_probe, write_run, written
from tests.toy_drive import token, write_toy_drive
from tools import report
from tools.report import plain_settings, read_probes, read_run, shown_dataset


@pytest.fixture(scope="module", autouse=True)
def cache_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVJEPA_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("AVJEPA_NUSCENES", raising=False)
        yield


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return write_toy_drive(tmp_path_factory.mktemp("drive"), keyframes=4)


@pytest.fixture
def run_dir(tmp_path):
    return write_run(tmp_path / "seed0")


@pytest.fixture
def probes_dir(run_dir):
    """Where the report looks by itself."""
    write_probe(run_dir / "probes" / "bev_occupancy")
    return run_dir / "probes"


def test_a_whole_page(tmp_path, run_dir, probes_dir, drive):
    (run_dir / "stages.json").write_text('{"data": 30, "train": 360.0}')
    made = written([run_dir, "--data", drive, "--out", tmp_path / "deep" / "r.html"])
    for words in (
        "tiny.py: seed0",
        "50 of 60",
        "2026/01/01 12:00:00 to 2026/01/01 12:06:00",
        "torch 2.9 on CPU, 2 threads",
        "seed 7",
        "0123abc",
        "0.987",
        "1.234",
        "0.400 ± 0.010",
        "gain against random init, loss against raw input",
        "BEV occupancy, near: IoU, JEPA, conv head; random init 0.100; raw input 0.500",
        "train scenes, 1: scene-0061; test scenes, 1: scene-0103; 3.0% of the test frames within 5 m of a training frame",
        "by hand",
        "iter_000050.png",
        "train 6.0 min",
        "scene-0103, keyframe",
        "python tools/train.py configs/tiny.py --work-dir work_dirs/seed0 --cfg-options randomness.seed=7 --resume",
        f"python tools/probe.py configs/probes/other.py {run_dir}/last.pth --data {drive}",
    ):
        assert words in made.text, words
    assert 'class="missing"' not in (tmp_path / "deep" / "r.html").read_text()
    assert made.tags.count("img") == 6 + 1 + 1 + 11 + 1  # cameras, LiDAR, probe, charts, training picture
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["r.html"]


def test_nothing_comes_from_outside(tmp_path, run_dir, probes_dir, drive):
    made = written([run_dir, "--data", drive, "--out", tmp_path / "r.html"])
    assert made.targets
    assert all(target.startswith("data:image/") for target in made.targets)
    assert not {"script", "link", "iframe", "object", "a", "form"} & set(made.tags)
    text = (tmp_path / "r.html").read_text()
    assert "url(" not in text
    assert "@import" not in text


def test_what_is_not_there_is_said_to_be_missing(tmp_path, run_dir):
    for path in [
        *run_dir.glob("pictures/*"),
        *run_dir.glob("*/*.log"),
        run_dir / "monitors.jsonl",
        run_dir / "tiny.py",
    ]:
        path.unlink()
    made = written([run_dir, "--out", tmp_path / "r.html"])
    for words in (
        "No probe results",
        "No pictures of the data",
        "No monitors.jsonl",
        "No picture in pictures/",
        "No stages.json",
        "No training config",
        "seed not recorded",
        "trained not recorded",
    ):
        assert words in made.text, words
    assert made.tags.count("img") == 3  # the loss, its terms, the regulariser


def test_everything_is_escaped(tmp_path, run_dir):
    evil = "<script>alert(1)</script><img src=http://x onerror=y>\"'"
    written_by = {"command": evil, "commit": evil, "convention": evil, "config": evil, "task": evil}
    (run_dir / "probes" / "a").mkdir(parents=True)
    record = written_by | {
        "columns": {evil: evil},
        "split": {evil: {"train_scenes": [evil], "overlap_share_5m": 0.5}},
        "results": {evil: {evil: {evil: [0.5]}, f"JEPA, {evil}": {evil: [0.5]}, f"random init, {evil}": {evil: [0.4]}}},
    }
    (run_dir / "probes" / "a" / "record.json").write_text(json.dumps(record))
    (run_dir / "tiny.py").rename(run_dir / "<script>.py")
    (run_dir / "<script>.py").write_text(
        f"randomness = dict(seed={evil!r})\nmonitor = dict(dataset=dict(scenes=({evil!r},)))"
    )
    (run_dir / "stages.json").write_text(json.dumps({evil: 1}))
    (run_dir / "pictures" / "iter_1<script>.png").write_bytes(b'"><script>')
    made = written([run_dir, "--out", tmp_path / "r.html"])
    assert "script" not in made.tags
    assert "<script>.py: seed0" in made.text  # as text
    assert made.text.count("<script>alert(1)</script>") >= 20
    assert all(unquote(target).startswith("data:image/") for target in made.targets)


def test_probes_of_another_folder(tmp_path, run_dir, probes_dir):
    write_probe(tmp_path / "other" / "map", task="map")
    made = written([run_dir, "--probes", tmp_path / "other", "--out", tmp_path / "r.html"])
    assert "Map segmentation and completion" in made.text
    assert "BEV occupancy" not in made.text


def test_the_moment_is_that_of_the_first_picture(run_dir, probes_dir):
    run = read_run(run_dir)
    write_probe(probes_dir / "unknown", task="unknown", config="test_data = dict(near=dict(root='other'))")
    first_split = plain_settings(f"a = {TEST_CLIPS}")["a"]
    assert shown_dataset(run, read_probes(probes_dir)) == first_split
    write_probe(probes_dir / "bev_occupancy", config="no config")
    assert shown_dataset(run, read_probes(probes_dir)) == run.settings["monitor"]["dataset"]


def test_the_moment_is_the_middle_clip(drive):
    """Four keyframes, one before and one after: two clips, of which the second is present at the third keyframe."""
    dataset = plain_settings(CONFIG.replace("ROOT", "None"))["monitor"]["dataset"]
    assert report.held_out_frame(dataset, str(drive)).token == token("sample", 1, 2)


def test_every_probe_is_named_among_the_next_commands(run_dir, probes_dir):
    write_probe(probes_dir / "map", task="map", command="python tools/probe.py configs/probes/map.py a.pth")
    write_probe(probes_dir / "again", task="again")
    commands = report.next_commands(read_run(run_dir), read_probes(probes_dir), None)
    assert [command.split()[2] for command in commands if "probe.py" in command] == [
        "configs/probes/other.py",
        "configs/probes/map.py",
    ]
    commands = report.next_commands(read_run(run_dir), [], None)
    assert f"python tools/probe.py configs/probes/bev_occupancy.py {run_dir}/last.pth" in commands


def test_an_absent_camera_and_lidar_are_named(run_dir, drive):
    settings = plain_settings(CONFIG.replace("ROOT", repr(str(drive))))
    frame = report.held_out_frame(settings["monitor"]["dataset"], str(drive))
    bare = type(frame)(
        **{
            **vars(frame),
            "camera_present": torch.tensor([False] + [True] * 5),
            "lidar_present": False,
            "points_ego": torch.zeros(0, 5),
        }
    )
    made = Page(page(read_run(run_dir), [], bare, "", []))
    assert "absent. front left" in made.text
    assert "No LiDAR at this moment" in made.text


def test_skipped_steps_are_counted_and_not_drawn(run_dir):
    curve = run_dir / "loss_curve.jsonl"
    rows = [json.loads(row) for row in curve.read_text().split("\n")[:-1]]
    drawn = Page(page(read_run(run_dir), [], None, "", []))
    assert "Skipped for their loss" not in drawn.text
    spike = {"iteration": 51, "loss": float("nan"), "loss_masked": 1e9, "skipped": 1}
    curve.write_text("".join(json.dumps(row) + "\n" for row in [*rows, spike, {**spike, "iteration": 52}]))
    with_spikes = Page(page(read_run(run_dir), [], None, "", []))
    assert "Skipped for their loss, and not drawn: 2 steps." in with_spikes.text
    assert with_spikes.targets[:4] == drawn.targets[:4]  # loss and its terms, light and dark: the same pictures


def test_spectra_of_other_files_do_not_break_the_page(run_dir):
    """A number where a list should be, and the other way round: left out."""
    row = {"iteration": 1, "std": [1.0], "rankme": 3.0, "spectrum": 0.5, "slowness": [float("nan"), 1.0]}
    (run_dir / "monitors.jsonl").write_text(json.dumps(row) + "\n")
    made = Page(page(read_run(run_dir), [], None, "", []))
    assert made.tags.count("img") == 3 + 2 + 1  # losses; rank and slowness; the training picture


def test_a_run_without_curves_yet(run_dir):
    (run_dir / "loss_curve.jsonl").write_text("")
    made = Page(page(read_run(run_dir), [], None, "no reason", []))
    assert "0 of 60" in made.text
    assert "No pictures of the data: no reason" in made.text


def test_configs_are_parsed_and_never_run(tmp_path):
    text = f"a = 1\nb = dict(c=('x', ), d=[1.5, None])\nopen({str(tmp_path / 'trap')!r}, 'w')\ne = print(1)\nf = dict(g=a)\n"
    assert plain_settings(text) == {"a": 1, "b": {"c": ("x",), "d": [1.5, None]}}
    assert not (tmp_path / "trap").exists()
    assert plain_settings("no config <script>") == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("loss_curve.jsonl", '{"iteration": 1}\nx\n'),
        ("loss_curve.jsonl", '{"loss": 1}\n'),
        ("monitors.jsonl", '{"iteration": 1, "std": "x"}\n'),
        ("monitors.jsonl", '{"iteration": 1, "spectrum": [0.5, "x"]}\n'),
        ("monitors.jsonl", '{"iteration": [1], "std": 1}\n'),
        ("stages.json", '{"a": -1}'),
        ("stages.json", "[]"),
        ("run.json", "[]"),
    ],
)
def test_damaged_runs(run_dir, name, content):
    (run_dir / name).write_text(content)
    with pytest.raises(DataError, match=name):
        read_run(run_dir)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "error: nowhere: not a run directory"),
        (["RUN", "--probes", "nowhere"], "error: nowhere: no TASK/record.json there"),
        (["RUN", "--data", "nowhere"], "error: nowhere: no such folder"),
        (["RUN", "--out", "RUN/tiny.py/r.html"], "cannot be written"),
    ],
)
def test_mistakes_are_one_line(run_dir, capsys, arguments, complaint):
    with pytest.raises(SystemExit) as left:
        run_tool(lambda: report.main([word.replace("RUN", str(run_dir)) for word in arguments]))
    assert left.value.code == 2
    error = capsys.readouterr().err.strip()
    assert complaint in error
    assert len(error.splitlines()) == 1


def write_evaluation(folder, **changes):
    """As tools/evaluate_map_changes.py writes it, with what the page reads."""
    record = {
        "edits_in_reach": ["a", "b", "c"],
        "events": {"confirmed": {"kind, pieces": {"found": 2, "precision": 0.5, "recall": 0.667}}},
        "false_events": {"confirmed": 1},
        "false_events_per_km": {"confirmed": None},
    }
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps({"results": {"town <a>": [{**record, **changes}]}}))


def test_map_changes_are_told_and_their_review_is_linked(tmp_path, run_dir):
    for name in ("a", "b #1"):
        write_evaluation(run_dir / "map_changes" / name)
    (run_dir / "map_changes" / "b #1" / "review.html").touch()
    made = written([run_dir, "--out", tmp_path / "pages" / "r.html"])
    row = "town <a> 3 2 1 0.500 0.667 -"
    assert f"{row} - {row} review.html" in made.text
    (link,) = [target for target in made.targets if not target.startswith("data:")]
    assert (tmp_path / "pages" / unquote(link)).resolve() == run_dir / "map_changes" / "b #1" / "review.html"


@pytest.mark.parametrize("text", ['{"results": {"a": [{}]}}', '{"results": [1]}', "[]"])
def test_a_damaged_evaluation_is_named(tmp_path, run_dir, text):
    (run_dir / "map_changes" / "a").mkdir(parents=True)
    (run_dir / "map_changes" / "a" / "evaluation.json").write_text(text)
    with pytest.raises(DataError, match=r"evaluation\.json: not a record of tools/evaluate_map_changes"):
        written([run_dir, "--out", tmp_path / "r.html"])
