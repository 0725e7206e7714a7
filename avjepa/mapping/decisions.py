"""What people decided on the review page, read back: ``decisions.json`` to the reviews of a report."""

from __future__ import annotations

from pathlib import Path

from avjepa.errors import DataError
from avjepa.mapping.changes import ChangeReport, Review
from avjepa.mapping.outputs.fields import review_of_fields
from avjepa.mapping.outputs.local_json import load_json

FORMAT = "avjepa-map-review"
VERSION = 1
WHAT = "decisions exported from a review page"


def apply_decisions(path: Path, report: ChangeReport) -> ChangeReport:
    """The report with the decisions of a file; changes that the file does not name keep their review.

    Raises:
        DataError: missing, damaged, decisions of another run, or a change that the report does not hold.
    """
    fields = load_json(path, WHAT)
    try:
        if (fields["format"], fields["version"]) != (FORMAT, VERSION):
            raise ValueError(f"want {FORMAT} version {VERSION}")
        run_id = fields["run_id"]
        reviews: dict[str, Review] = {}
        for decision in fields["decisions"]:
            if decision["change_id"] in reviews:
                raise ValueError(f"two decisions on {decision['change_id']}")
            reviews[decision["change_id"]] = review_of_fields(decision)
    except KeyError as error:
        raise DataError(f"{path}: no field {error}; export the decisions again") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not {WHAT} ({error}); export them again") from error
    if run_id != report.run_id:
        raise DataError(f"{path}: decisions on run {run_id}, not on {report.run_id}; take those of this run")
    try:
        return report.reviewed(reviews)
    except KeyError as error:
        raise DataError(f"{path}: decides on {error}, which run {run_id} does not hold; export them again") from error
