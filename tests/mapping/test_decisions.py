import json

import pytest

from avjepa.errors import DataError
from avjepa.mapping.changes import Review
from avjepa.mapping.decisions import FORMAT, apply_decisions
from tests.mapping.reports import END, HOSTILE, make_report


def write(path, decisions, **fields):
    path.write_text(json.dumps({"format": FORMAT, "version": 1, "run_id": "run-1", "decisions": decisions} | fields))
    return path


def said(change_id, decision="accepted", note="", reviewed="2026-05-04T12:00:09.000Z"):
    return {"change_id": change_id, "decision": decision, "note": note, "reviewed": reviewed}


def test_decisions_land_on_their_changes(tmp_path):
    path = write(tmp_path / "decisions.json", [said("c1"), said(HOSTILE, "rejected", HOSTILE)])
    reviewed = {change.change_id: change.review for change in apply_decisions(path, make_report()).changes}
    assert reviewed["c1"] == Review("accepted", "", END)
    assert reviewed[HOSTILE] == Review("rejected", HOSTILE, END)
    assert reviewed["c0"] == Review()
    assert reviewed["c3"] == Review("accepted", "=1+1 seen on site", END)  # from before, and not in the file


@pytest.mark.parametrize(
    ("decisions", "fields", "message"),
    [
        ([said("c99")], {}, "c99"),
        ([said("c1")], {"run_id": "run-2"}, "run-2, not on run-1"),
        ([said("c1")], {"format": "other"}, "version 1"),
        ([said("c1"), said("c1")], {}, "two decisions on c1"),
        ([said("c1", decision="perhaps")], {}, "perhaps"),
        ([said("c1", note=3)], {}, "note"),
        ([said("c1", reviewed="yesterday")], {}, "yesterday"),
        ([said("c1", reviewed="2026-05-04T12:00:09")], {}, "UTC"),
        ([{"change_id": "c1"}], {}, "'note'"),
        (3, {}, "export"),
        (["c1"], {}, "export"),
    ],
)
def test_decisions_that_cannot_be_used(tmp_path, decisions, fields, message):
    path = write(tmp_path / "decisions.json", decisions, **fields)
    with pytest.raises(DataError, match=message) as error:
        apply_decisions(path, make_report())
    assert "decisions.json" in str(error.value)


def test_damaged_and_missing_files(tmp_path):
    (tmp_path / "decisions.json").write_text('{"format": "avjepa')
    for name in ("decisions.json", "gone.json"):
        with pytest.raises(DataError, match=name):
            apply_decisions(tmp_path / name, make_report())
