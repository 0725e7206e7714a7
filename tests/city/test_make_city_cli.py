"""The command line of tools/make_city.py: what it refuses, and how."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from avjepa.city import generate
from avjepa.cli import run_tool

TOOL = Path(__file__).resolve().parents[2] / "tools" / "make_city.py"


@pytest.fixture(scope="module")
def make_city():
    spec = importlib.util.spec_from_file_location("make_city", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refused(make_city, capsys, *options) -> str:
    """The one line that a mistake gives."""
    with pytest.raises(SystemExit) as left:
        run_tool(lambda: make_city.main([str(option) for option in options]))
    assert left.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1:]
    assert error
    assert "Traceback" not in error[0]
    return error[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--image-size", "352"), "--image-size 352"),
        (("--image-size", "axb"), "--image-size axb"),
        (("--image-size", "352x0"), "16 to 4096"),
        (("--image-size", "99999x198"), "16 to 4096"),
        (("--image-size", "1x2x3"), "--image-size 1x2x3"),
        (("--town", "C"), "no town 'C'; want A, B"),
        (("--town", ""), "want A, B"),
        (("--scenes", "0"), "at least one scene"),
        (("--scenes", "-3"), "at least one scene"),
        (("--workers", "0"), "one worker"),
        (("--seconds", "0.2"), "1 to 60 seconds"),
        (("--seconds", "61"), "1 to 60 seconds"),
        (("--seconds", "nan"), "1 to 60 seconds"),
        (("--seed", "-1"), "seed from 0"),
        (("--revisited-share", "1.5"), "shares in [0, 1]"),
        (("--changed-share", "-0.1"), "shares in [0, 1]"),
        (("--changed-share", "nan"), "shares in [0, 1]"),
    ],
)
def test_values_that_make_no_sense_are_refused_in_one_line(make_city, capsys, tmp_path, options, words):
    out = tmp_path / "city"
    assert words in refused(make_city, capsys, "--out", out, *options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--scenes", "--seconds", "--seed", "--workers"])
def test_words_instead_of_numbers_are_refused(make_city, capsys, option):
    assert f"argument {option}" in refused(make_city, capsys, option, "many")


@pytest.mark.parametrize("content", [None, "not JSON", '{"format": 0, "scenes": 1}'])
def test_a_folder_that_holds_something_else_is_left_alone(make_city, capsys, tmp_path, content):
    out = tmp_path / "city"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    if content is not None:
        (out / generate.SETTINGS_FILE).write_text(content)
    before = sorted(path.name for path in out.iterdir())
    line = refused(make_city, capsys, "--out", out, "--scenes", 1)
    assert line.startswith("error: ")
    assert str(out) in line
    assert "--out" in line
    assert sorted(path.name for path in out.iterdir()) == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_file_in_the_way_is_left_alone(make_city, capsys, tmp_path):
    out = tmp_path / "city"
    out.write_text("mine")
    assert str(out) in refused(make_city, capsys, "--out", out)
    assert out.read_text() == "mine"


def test_a_city_of_these_settings_is_not_made_again(make_city, capsys, tmp_path):
    settings = make_city._settings(make_city.parse_args(["--scenes", "3", "--town", "a", "--image-size", "64X32"]))
    assert (settings.image_size_px, settings.towns) == ((32, 64), ("minicity-a",))
    out = tmp_path / "city"
    out.mkdir()
    # As cities hold it that were made before there was --drive-new-ways.
    wanted = {
        **{"format": 1, "scenes": 3, "seed": 0, "seconds": 8.0, "image_size_px": [32, 64], "towns": ["minicity-a"]},
        **{"revisited_share": 0.5, "changed_share": 0.6},
    }
    (out / generate.SETTINGS_FILE).write_text(json.dumps(wanted))
    run_tool(lambda: make_city.main(["--out", str(out), "--scenes", "3", "--town", "A", "--image-size", "64x32"]))
    assert "already there" in capsys.readouterr().out
    other = ("--out", out, "--scenes", "4", "--town", "A", "--image-size", "64x32")
    assert "another city" in refused(make_city, capsys, *other)
    takes = ("--out", out, "--scenes", "3", "--town", "A", "--image-size", "64x32", "--drive-new-ways")
    assert "another city" in refused(make_city, capsys, *takes)


def test_help_has_an_example_and_every_option(make_city, capsys):
    with pytest.raises(SystemExit) as left:
        make_city.parse_args(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert "python tools/make_city.py --out" in text
    for option in (
        "--out",
        "--scenes",
        "--seconds",
        "--seed",
        "--image-size",
        "--workers",
        "--town",
        "--drive-new-ways",
    ):
        assert option in text.partition("example:")[0]
