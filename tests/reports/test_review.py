import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from avjepa.mapping.frames import FRAMES
from avjepa.reports.review import Picture, script_safe_json, write_review
from tests.mapping.reports import HOSTILE, make_report
from tests.reports.review_pages import prior_map, write_page


class Elements(HTMLParser):
    """Tags of a page with their attributes, and the text of every script."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.scripts, self._inside = [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._inside = tag == "script"

    def handle_data(self, data):
        if self._inside:
            self.scripts.append(data)

    def handle_endtag(self, tag):
        self._inside = False


def test_the_page_is_one_file_with_two_scripts(tmp_path):
    elements = Elements(write_page(tmp_path / "review.html", make_report()).read_text())
    assert [tag for tag, _ in elements.tags].count("script") == len(elements.scripts) == 2
    assert not [
        attributes for _, attributes in elements.tags if {"src", "href", "onerror", "onclick"} & set(attributes)
    ]
    data = json.loads(elements.scripts[0])
    assert [item["change_id"] for item in data["changes"]] == [item.change_id for item in make_report().changes]
    assert data["changes"][6]["description"] == HOSTILE
    policy = next(attributes["content"] for tag, attributes in elements.tags if "http-equiv" in attributes)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall(r"'sha256-[\w+/]{43}='", policy)) == 2


def test_escaped_json_holds_no_markup_and_is_the_same_json():
    data = {"a": HOSTILE, HOSTILE: ["\u2028\u2029", "\ud800", 1.5, None]}
    text = script_safe_json(data)
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == data


def test_shapes_are_drawn_in_metres_from_one_corner(tmp_path):
    report = make_report()
    data = json.loads(Elements(write_page(tmp_path / "review.html", report).read_text()).scripts[0])
    lines = data["changes"][5]["old"]["lines"]  # two areas, one with a hole
    assert [len(line) for line in lines] == [10, 10, 10]
    # The south-western corner of all changes is (0, 0), so page metres are map metres here.
    assert np.array(lines[0]).reshape(-1, 2).tolist() == [
        list(xy) for xy in report.changes[0].old_geometry.exterior.coords
    ]
    assert data["changes"][1]["old"] is None
    assert [part["names"] for part in data["context"]] == ["drivable_area", "ped_crossing"]
    assert len(data["driven"]) == 1


def test_wrong_input_is_refused(tmp_path):
    with pytest.raises(ValueError, match="PNG or JPEG"):
        Picture(b"<svg onload=alert(1)>", "drawing")
    with pytest.raises(ValueError, match="minicity-b"):
        write_review(tmp_path / "review.html", make_report(), prior_map(FRAMES["minicity-b"]), {}, {})
