"""The review page as a reviewer uses it: opened from disk in a headless Chromium."""

import shutil
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from shapely.geometry import box

from avjepa.mapping.changes import Review
from avjepa.mapping.decisions import apply_decisions
from tests.mapping.reports import END, HOSTILE, change, make_report
from tests.reports.review_pages import write_page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e .[dev]")
    with playwright.sync_playwright() as driver:
        own = driver.chromium.executable_path
        found = next(filter(None, map(shutil.which, BROWSERS)), own)
        try:
            browser = driver.chromium.launch(executable_path=found)
        except playwright.Error as error:
            pytest.skip(
                f"no Chromium: install one, or run `playwright install chromium` ({str(error).splitlines()[0]})"
            )
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, tmp_path):
    """``opened(report)`` is a page opened from disk; afterwards there must have been no error, dialog or request to anywhere."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, offline=True)
    faults = []

    def open_page(report):
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.on("dialog", lambda dialog: faults.append("dialog"))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith(("file:", "data:", "blob:")) else faults.append(asked.url),
        )
        page.goto(write_page(tmp_path / "review.html", report).as_uri())
        return page

    yield open_page
    context.close()
    assert faults == []


def texts(page, selector):
    return page.locator(selector).all_text_contents()


def picked(page):
    return page.get_attribute('#list [aria-current="true"]', "data-id")


def exported(page, path):
    with page.expect_download() as download:
        page.keyboard.press("e")
    download.value.save_as(path)
    return path


def test_decisions_by_keyboard_survive_a_reload_and_come_back(opened, tmp_path):
    report = make_report()
    page = opened(report)
    assert texts(page, "#progress") == ["1 of 7 decided: 1 accepted, 0 rejected"]
    assert picked(page) == "c0"
    page.keyboard.press("a")  # c0; goes on to c1
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("r")  # c1
    assert picked(page) == "c2"
    page.keyboard.press("n")
    page.keyboard.type("a bus jar")  # keys are text here
    page.keyboard.press("Escape")
    page.keyboard.press("a")  # c2
    page.keyboard.press("a")  # c3, accepted before: taken back
    assert texts(page, "#progress") == ["3 of 7 decided: 2 accepted, 1 rejected"]
    page.keyboard.press("u")  # c3 is accepted again
    page.keyboard.press("u")  # c2 is undecided again, with its note
    assert picked(page) == "c2"
    page.reload()
    assert texts(page, "#progress") == ["3 of 7 decided: 2 accepted, 1 rejected"]
    back = apply_decisions(exported(page, tmp_path / "decisions.json"), report)
    reviews = [change.review for change in back.changes]
    assert [review.decision for review in reviews[:4]] == ["accepted", "rejected", "undecided", "accepted"]
    assert [review.note for review in reviews] == ["", "", "a bus jar", "=1+1 seen on site", "", "", HOSTILE]
    assert all(review.reviewed.tzinfo is not None for review in reviews if review != Review())
    assert reviews[3].reviewed == END  # untouched, to the second
    # A page of the decided report shows the same, in this browser and in one that has seen nothing.
    assert texts(opened(back), "#progress") == ["3 of 7 decided: 2 accepted, 1 rejected"]
    page.evaluate("localStorage.clear()")
    page = opened(back)
    assert texts(page, "#progress") == ["3 of 7 decided: 2 accepted, 1 rejected"]


def reopened(opened, report, progress):
    """A new page, opened again until it says so: on a busy machine what another page stored arrives a moment later."""
    for _ in range(10):
        page = opened(report)
        if texts(page, "#progress") == [progress]:
            break
        page.wait_for_timeout(500)
    return page


def test_a_page_made_again_wins_where_its_review_is_newer(opened, tmp_path):
    report, now = make_report(), datetime.now(timezone.utc)
    page = opened(report)
    for key in "aaa":  # c0, c1, c2
        page.keyboard.press(key)
    page.click('#list [data-id="c3"]')
    page.keyboard.press("a")  # accepted in the page: taken back
    told = {
        "c0": Review("rejected", "a shadow", now + timedelta(hours=1)),
        "c1": Review("rejected", "of last week", now - timedelta(days=7)),
        "c4": Review("accepted", "", now - timedelta(days=7)),  # not touched here
    }
    again = report.reviewed(told)
    page = reopened(opened, again, "4 of 7 decided: 3 accepted, 1 rejected")
    assert texts(page, "#progress") == ["4 of 7 decided: 3 accepted, 1 rejected"]
    back = {item.change_id: item.review for item in apply_decisions(exported(page, tmp_path / "d.json"), again).changes}
    assert [back[f"c{number}"].decision for number in range(5)] == [
        *("rejected", "accepted", "accepted", "undecided", "accepted"),
    ]
    assert (back["c0"], back["c1"].note, back["c4"]) == (told["c0"], "", told["c4"])
    # What was not kept is gone: the old page shows it no more.
    page.keyboard.press("j")
    page.keyboard.press("n")
    page.keyboard.type("seen")
    page.keyboard.press("Escape")
    page = reopened(opened, report, "2 of 7 decided: 2 accepted, 0 rejected")
    assert texts(page, "#progress") == ["2 of 7 decided: 2 accepted, 0 rejected"]
    assert page.locator('#list [data-id="c0"] .mark').text_content() == ""


@pytest.mark.parametrize(
    "kept",
    [
        "{",
        '{"c0": 1}',
        '[null, 3, ["c0", {"decision": "accepted", "note": "", "reviewed": null}]]',
        '[{"id": "c0", "from": null, "review": {"decision": "accepted", "note": "", "reviewed": null}, "said": "x"}]',
    ],
)
def test_what_is_not_a_kept_review_is_left_alone(opened, kept):
    page = opened(make_report())
    page.evaluate("kept => localStorage.setItem('avjepa-review/run-1', kept)", kept)
    page.reload()
    assert texts(page, "#progress") == ["1 of 7 decided: 1 accepted, 0 rejected"]


def test_buttons_do_what_keys_do(opened):
    page = opened(make_report())
    page.click('#list [data-id="c4"]')
    page.fill("#note", "worn")
    page.click('#list [data-id="c5"]')  # leaving the note must not swallow the click
    assert picked(page) == "c5"
    page.click("#reject")
    page.click('#list [data-id="c4"]')
    assert page.input_value("#note") == "worn"
    assert texts(page, "#progress") == ["2 of 7 decided: 1 accepted, 1 rejected"]
    page.click("#undo")
    assert picked(page) == "c5"
    assert texts(page, "#progress") == ["1 of 7 decided: 1 accepted, 0 rejected"]


def test_filters(opened):
    page = opened(make_report())

    def shown():
        return [row.get_attribute("data-id") for row in page.locator("#list button").all()]

    page.click("#kinds button >> text=deletion")
    assert shown() == ["c1", "c2", "c3", "c4", "c5"]
    assert picked(page) == "c1"
    page.click("#statuses button >> text=degraded")
    assert shown() == ["c1", "c2", "c3", "c5"]
    page.fill("#confidence", "0.7")
    assert shown() == ["c1", "c2", "c5"]
    page.select_option("#layer", "lane_divider")
    assert shown() == ["c2"]
    page.select_option("#decision", "accepted")
    assert shown() == []
    assert page.inner_text("#nothing") == "No change passes the filters."
    page.keyboard.press("a")  # decides nothing that is not shown
    assert texts(page, "#progress") == ["1 of 7 decided: 1 accepted, 0 rejected"]
    hidden = page.eval_on_selector_all(
        "#changes g", "all => all.filter(g => getComputedStyle(g).visibility === 'hidden').length"
    )
    assert hidden == 7


def test_letters_in_a_list_of_options_choose_there(opened):
    page = opened(make_report())
    for field in ("#layer", "#decision"):
        page.focus(field)
        for key in "arn":
            page.keyboard.press(key)
    assert texts(page, "#progress") == ["1 of 7 decided: 1 accepted, 0 rejected"]
    assert page.evaluate("document.activeElement.id") == "decision"


def test_before_and_after_on_the_map(opened):
    page = opened(
        make_report([change("c2", layer="lane_divider", atomic_change="geometry", new_geometry=box(20, 20, 24, 24))])
    )
    look = "path => getComputedStyle(path).visibility"

    def sides():
        return [page.eval_on_selector(f"#changes path.{side}", look) for side in ("old", "new")]

    assert sides() == ["visible", "visible"]
    page.keyboard.press("b")
    assert sides() == ["hidden", "visible"]
    page.click("text=Before")
    assert sides() == ["visible", "hidden"]
    # The change is in the middle of the view, north is up: new lies to the north-east of old.
    page.click("text=Both")
    old, new = (page.locator(f"#changes path.{side}").bounding_box() for side in ("old", "new"))
    area = page.locator("#map").bounding_box()
    assert abs((old["x"] + new["x"] + new["width"]) / 2 - area["x"] - area["width"] / 2) < 2
    assert new["x"] > old["x"]
    assert area["y"] < new["y"] <= old["y"]
    # A wheel zooms about the pointer; a drag moves the map with it.
    page.mouse.move(old["x"], old["y"])
    page.mouse.wheel(0, -100)
    width = "() => document.querySelector('#changes path.old').getBoundingClientRect().width"
    page.wait_for_function(f"before => ({width})() > 1.1 * before", arg=old["width"])
    nearer = page.locator("#changes path.old").bounding_box()
    assert nearer["x"] == pytest.approx(old["x"], abs=2)
    page.mouse.down()
    page.mouse.move(old["x"] + 50, old["y"] + 30)
    page.mouse.up()
    moved = page.locator("#changes path.old").bounding_box()
    assert (moved["x"] - nearer["x"], moved["y"] - nearer["y"]) == pytest.approx((50, 30), abs=1)


def test_what_a_reader_must_know_of_the_evidence_is_shown(opened):
    assert not opened(make_report()).is_visible("#warnings")
    page = opened(replace(make_report(), warnings=("was trained on these drives", HOSTILE)))
    assert page.is_visible("#warnings")
    assert page.text_content("#warnings").split("\n", 1) == ["was trained on these drives", HOSTILE]


def test_hostile_text_is_text(opened, tmp_path):
    page = opened(make_report())
    page.click("#list li:last-child button")
    assert page.inner_text("#heading").startswith("</script><script>document.title='owned'")
    assert HOSTILE in texts(page, "#fields dd")
    assert page.input_value("#note") == HOSTILE
    page.keyboard.press("a")
    page.click('#list [data-id="c0"]')
    assert page.get_attribute("#pictures img >> nth=0", "alt") == "CAM_FRONT " + HOSTILE
    assert page.title() == "Map changes, minicity-a"
    assert page.locator("script").count() == 2
    assert page.locator("img:not(#pictures img):not(#zoom-image)").count() == 0


def test_the_page_can_neither_run_nor_ask_for_anything_else(chromium, tmp_path):
    page = chromium.new_page()
    page.goto(write_page(tmp_path / "review.html", make_report()).as_uri())
    violations = page.evaluate("""async () => {
        const found = [];
        document.addEventListener("securitypolicyviolation", event => found.push(event.effectiveDirective));
        const picture = document.createElement("img");
        picture.src = "https://example.org/x.png";
        document.body.append(picture);
        await fetch("https://example.org").catch(() => null);
        const sinks = [
            () => { document.body.innerHTML = "<b>x</b>"; },
            () => { picture.setAttribute("onclick", "window.owned = 1"); picture.click(); },
            () => {
                const script = document.createElement("script");
                script.append("window.owned = 1");
                document.body.append(script);
            },
        ];
        for (const sink of sinks) {
            try { sink(); } catch (error) { found.push(error.name); }
        }
        await new Promise(done => setTimeout(done, 50));
        return found;
    }""")
    assert {"img-src", "connect-src", "require-trusted-types-for"} <= set(violations)
    assert page.evaluate("window.owned") is None
    page.close()


def test_a_report_without_changes(opened):
    page = opened(make_report([]))
    assert page.inner_text("#nothing") == "No changes were found: the map agrees with the drives."
    for key in "jkarufbwe":
        page.keyboard.press(key)
    assert texts(page, "#progress") == ["0 of 0 decided: 0 accepted, 0 rejected"]


def test_pictures_open_large_and_close(opened):
    page = opened(make_report())
    page.click("#pictures img >> nth=1")
    assert page.inner_text("#zoom-caption") == "BEV"
    page.keyboard.press("a")  # not while a picture covers the page
    assert texts(page, "#progress") == ["1 of 7 decided: 1 accepted, 0 rejected"]
    page.keyboard.press("Escape")
    assert not page.is_visible("#zoom")
    page.keyboard.press("?")
    assert page.is_visible("#keys")
