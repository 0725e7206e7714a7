import pytest

from avjepa.reports.tables import gain_verdict, markdown_table, mean_and_spread


def test_mean_and_spread():
    assert mean_and_spread([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert mean_and_spread([5.0]) == (5.0, 0.0)


def test_table_shows_spread_where_there_are_seeds():
    table = markdown_table({"ours": {"iou": [0.5, 0.6, 0.7]}, "copied": {"iou": [0.4]}}, {"iou": "IoU"})
    assert table.splitlines() == [
        "| | IoU | seeds |",
        "|---|---|---|",
        "| ours | 0.600 ± 0.100 | 3 |",
        "| copied | 0.400 | 1 |",
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ([0.60, 0.61, 0.62], [0.50, 0.51, 0.52], "gain"),
        ([0.50, 0.51, 0.52], [0.60, 0.61, 0.62], "loss"),
        ([0.60, 0.61, 0.62], [0.40, 0.60, 0.80], "no difference"),  # below the larger spread
        ([0.6], [0.6], "no difference"),
    ],
)
def test_a_gain_below_the_spread_is_no_gain(ours, theirs, verdict):
    assert gain_verdict(ours, theirs, "IoU") == verdict


def test_of_an_error_less_is_a_gain():
    assert gain_verdict([0.2], [0.4], "L1 m ↓") == "gain"
    assert gain_verdict([0.4], [0.2], "L1 m ↓") == "loss"
    assert gain_verdict([0.3, 0.5], [0.2, 0.4], "L1 m ↓") == "no difference"
