"""The gallery of synthetic studies; what its script does is shown in Chromium, or skipped where there is none."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from lib.evaluation import failures
from lib.imaging import preview
from lib.report import gallery
from lib.study import files, params
from tests import builders_gallery, builders_report
from tests.builders_gallery import ENDPOINTS
from tests.builders_report import LAST_IS_ABSENT, folder

REGIONS, VOLUMES, POINTS = "demo", "phantom_lgg", "phantom_hc18_landmarks"
LONG = "x" * 200
WILD = [
    f"<script>said=1<!--{LONG}",
    "\"quoted\" & 'b'",
    "\u202egnp.#1",
    "a@@DATA@@%\\u003c",
]  # no / : files are named so
SUBJECT = "</script><img src=x onerror=said=2>"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
in_browser = pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed")


def write_study(name: str, patch: pytest.MonkeyPatch, names: list[str] = (), **changes) -> params.Study:
    """The files of a synthetic study that the gallery reads; its first tested cases have the given names."""
    study = params.read_study(files.study_file(name))
    study = study.model_copy(update={"folds": [0], "seeds": [0], "compare_with": []} | changes)
    builders_report.write_data(study)
    if names:
        plain = builders_report.manifest_of(study)
        new = dict(zip((key["case"] for key in builders_report.tested(study)), names))
        subject = plain["subject"].mask(plain["case"].isin(new), SUBJECT)
        wild = plain.assign(case=plain["case"].replace(new), subject=subject, fold_group=subject)
        patch.setattr(builders_report, "manifest_of", lambda _: wild.copy())
        folds = files.read_csv(folder(study, "01_data_verification/folds.csv"), [])
        files.write_csv(folder(study, "01_data_verification/cases.csv"), wild)
        folds = folds.assign(case=folds["case"].replace(new))
        files.write_csv(folder(study, "01_data_verification/folds.csv"), folds)
    manifest = builders_report.manifest_of(study)
    found = files.read_csv(folder(study, "01_data_verification/findings.csv"), [])
    predicted = builders_report.errors_of(study) if study.learns_landmarks else builders_report.counted(study)
    about = builders_report.structures(study), manifest, found
    long = {"05_evaluation/cases": predicted, "06_biometry/measurements": builders_report.measured(study)}
    for path, table in long.items():
        listed = failures.failures(table, failures.properties(table, *about), about[0])
        files.write_csv(folder(study, f"{path}.csv"), table)
        files.write_csv(folder(study, f"{path.partition('/')[0]}/failures.csv"), listed)
    builders_gallery.write(study, builders_report.tested(study), manifest)
    return study


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, tuple[params.Study, str]]:
    """Study and page by name; "wild" is the demo with names that could be taken for markup."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in (REGIONS, VOLUMES, POINTS):
            patch.setenv("REPORTS_ROOT", str(tmp_path_factory.mktemp(name)))
            study = write_study(name, patch)
            made[name] = study, gallery.page(study)
        patch.setenv("REPORTS_ROOT", str(tmp_path_factory.mktemp("wild")))
        title = "Heads </title><script>said=3</script> @@DATA@@ " + LONG
        study = write_study(REGIONS, patch, WILD, title=title)
        made["wild"] = study, gallery.page(study)
    return made


class Elements(HTMLParser):
    """Start tags of a page with their attributes, and the text of its data."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][1].get("id") == "data" and not self.text:
            self.text = data


def data_of(page: str) -> dict:
    return json.loads(Elements(page).text)


def values(data: dict, case: int) -> dict[str, float]:
    return {column["title"]: value for column, value in zip(data["columns"], data["entries"][case]["values"])}


def test_each_test_case_has_its_metrics_flags_and_a_picture(pages):
    data = data_of(pages[REGIONS][1])
    assert [column["title"] for column in data["columns"]][:5] == [
        *("Lowest Dice", "Dice, parenchyma", "Dice, CSP", "Dice, LV", "IoU, parenchyma")
    ]
    first, last = values(data, 0), values(data, 3)
    assert first["Dice, CSP"] == first["Lowest Dice"] == pytest.approx(2 * 900 / (2 * 900 + 40 + 50), abs=1e-6)
    assert last["FN (pixels), LV"] == 80
    assert (first["HD95 (mm), LV"], last["HD95 (mm), LV"]) == (1.25, 4.25)
    assert not [column["title"] for column in data["columns"] if "mean" in column["title"].lower()]
    heads = [last[f"{name}, HC"] for name in ("Predicted (mm)", "Reference (mm)", "Error (mm)", "Error (%)")]
    assert heads == [183.5, 180.0, 3.5, pytest.approx(100 * 3.5 / 180, abs=1e-5)]
    assert len(data["entries"]) == 4
    assert data["choices"]["class"] == ["parenchyma", "CSP", "LV"]
    assert data["choices"]["group"] == [*dict.fromkeys(entry["group"] for entry in data["entries"])]
    assert [len(entry["pictures"]) for entry in data["entries"]] == [1] * 4
    assert pages[REGIONS][1].count('<template id="picture') == 4


def test_a_group_of_head_sizes_is_named_by_its_range_in_the_whole_data_set(monkeypatch, tmp_path):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    study = write_study(REGIONS, monkeypatch)
    path = folder(study, "01_data_verification/cases.csv")
    manifest = builders_report.manifest_of(study).replace({"stratum": {"low": "hc0", "high": "hc1 csp"}})
    files.write_csv(path, manifest.assign(hc_mm=[90.0, 99.6, 150.4, 176.6] * 5))
    assert set(data_of(gallery.page(study))["choices"]["group"]) == {"HC 90–100 mm", "HC 150–177 mm"}


def test_a_volume_shows_each_slice_with_a_structure_and_an_absent_one_has_no_class(pages):
    study, page = pages[VOLUMES]
    data = data_of(page)
    assert [each["slice"] for each in data["entries"][0]["pictures"]] == [1, 3]
    absent, titles = data["entries"][LAST_IS_ABSENT], [column["title"] for column in data["columns"]]
    assert (absent["classes"], absent["values"][0]) == ([], None)
    assert titles[0] == f"Dice, {study.classes[1]}"
    assert f"TP (voxels), {study.classes[1]}" in titles


def test_landmarks_are_drawn_over_the_published_ones_and_sorted_by_their_largest_error(pages):
    page = pages[POINTS][1]
    data = data_of(page)
    assert data["columns"][0]["title"] == "Largest error (% of OFD)"
    assert data["entries"][0]["values"][0] is None  # its BPD is missed
    assert data["entries"][1]["values"][0] == pytest.approx(1.25 * (1 + 1 / 8 + 1 / 4))
    assert [each["name"] for each in data["layers"]] == ["reference", "biometry"]
    assert data["maps"] == []
    assert page.count('<g class="reference"') == page.count('<g class="biometry"') == len(data["entries"])


def test_flags_of_measurements_and_kinds_of_failure_are_those_of_the_case(tmp_path, monkeypatch):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    study = write_study(REGIONS, monkeypatch)
    path = folder(study, "06_biometry/measurements.csv")
    table = files.read_csv(path, [])
    case = table["case"].iloc[0]
    is_first = (table["case"] == case) & (table["route"] == "ellipse") & (table["quantity"] == "hc")
    files.write_csv(path, table.assign(flags=table["flags"].where(~is_first, "elongated; HC out of range")))
    data = data_of(gallery.page(study))
    of_case = {entry["case"]: entry["flags"] for entry in data["entries"]}
    assert {"elongated", "HC out of range"} <= set(of_case[case])
    assert set(data["choices"]["flag"]) == {flag for flags in of_case.values() for flag in flags}
    assert "worst" not in data["choices"]["flag"]


def test_calipers_have_the_lengths_of_their_endpoints_in_mm_and_pixels_may_be_oblong():
    points, oblong = np.array(ENDPOINTS), {"spacing_row_mm": 0.5, "spacing_col_mm": 0.25, "width": 40, "case": "a"}
    layer = gallery.biometry_layer(points, oblong, is_ellipse=True)
    assert re.findall(r">([A-Z]+ [\d.]+ \w+)<", layer) == ["OFD 7.5 mm", "BPD 10.0 mm"]
    assert 'd="M5.5 27.0L35.5 27.0"' in layer  # row 13 is 13.5 pixels of twice the height below the top
    assert layer.count("<path") == 3
    unknown = oblong | {"spacing_row_mm": np.nan, "spacing_col_mm": np.nan}
    assert re.findall(r">([A-Z]+ [\d.]+ \w+)<", gallery.biometry_layer(points, unknown, False)) == [
        "OFD 30.0 px",
        "BPD 20.0 px",
    ]
    assert gallery.biometry_layer(np.full((4, 2), np.nan), oblong, True) == ""
    without_bpd = np.vstack([points[:2], np.full((2, 2), np.nan)])
    assert gallery.biometry_layer(without_bpd, oblong, False).count("<path") == 1


def test_names_and_texts_are_data_and_never_markup(pages):
    study, page = pages["wild"]
    data, elements = data_of(page), Elements(page)
    assert [entry["case"] for entry in data["entries"]] == WILD
    assert {entry["subject"] for entry in data["entries"]} == {SUBJECT}
    assert [tag for tag, _ in elements.tags].count("script") == 2
    assert not [tag for tag, _ in elements.tags if tag in ("img", "iframe", "link", "object")]
    assert not [name for _, attributes in elements.tags for name in attributes if name.startswith("on")]
    assert "<title>Heads &lt;/title&gt;&lt;script&gt;said=3&lt;/script&gt; @@DATA@@ " in page
    assert study.title.endswith(LONG)


def test_the_page_loads_nothing_and_only_its_own_script_may_run(pages):
    page = pages[REGIONS][1]
    script = page.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert f'content="{policy}"' in page
    addresses = [
        each for _, attributes in Elements(page).tags for key, each in attributes.items() if key in ("href", "src")
    ]
    assert addresses
    assert all(each.startswith("data:image/") for each in addresses)


def test_the_same_files_give_the_same_page_and_a_missing_preview_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    study = write_study(REGIONS, monkeypatch)
    assert gallery.page(study) == gallery.page(study)
    folder(study, "05_evaluation/previews/fold0-seed0").rename(tmp_path / "elsewhere")
    named = (
        r"previews/fold0-seed0: no preview of case case\d+, but required by gallery.html; rerun notebook 05_evaluation"
    )
    with pytest.raises(ValueError, match=named):
        gallery.page(study)


# --- in a browser

DRIVER = """
function names() { return [...document.querySelectorAll("#cases bdi")].map(each => each.textContent); }
function press(key) {
  const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true });
  (document.activeElement || document).dispatchEvent(event);
}
function style(query) { return getComputedStyle(document.querySelector(query)); }
function choose(id, value, kind) {
  const one = document.getElementById(id);
  if (one.type === "checkbox") one.checked = value; else one.value = value;
  one.dispatchEvent(new Event(kind || "change", { bubbles: true }));
}
function sortBy(title) { choose("sort", String(data.columns.findIndex(column => column.title === title))); }
function name() { return at("case").open ? at("name").textContent : null; }
function focused() { return document.activeElement.querySelector("bdi")?.textContent; }
function run() {
  const said = {};
  try { (said => { STEPS })(said); } catch (error) { said.error = String(error); }
  const out = document.createElement("pre");
  out.id = "said";
  out.textContent = JSON.stringify(said);
  document.body.replaceChildren(out);
}
function wait(left) { // for the first picture in view, which a slow machine draws late
  if (left === 0 || document.querySelector("#cases svg")) run();
  else requestAnimationFrame(() => setTimeout(() => wait(left - 1), 50));
}
wait(60);
"""


def dumped(page: str, at) -> str:
    """A page, as a browser has it after its script has run."""
    path = at / "page.html"
    path.write_text(page, encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={at / 'profile'}"]
    command += ["--virtual-time-budget=6000", "--window-size=1000,700", "--dump-dom", path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def driven(page: str, at, steps: str) -> dict:
    """What JavaScript `steps` note in `said`, run in a page whose policy allows one more script."""
    free = re.sub(r"script-src 'sha256-[^']+'", "script-src 'unsafe-inline'", page)
    driver = f"<script>{DRIVER.replace('STEPS', steps)}</script></html>"
    text = dumped(free.replace("</html>", driver), at)
    said = re.search(r'<pre id="said">(.*?)</pre>', text, re.DOTALL)[1]
    return json.loads(said.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


@in_browser
def test_a_browser_filters_sorts_opens_and_follows_the_keyboard(pages, tmp_path):
    steps = """
    said.first = names();
    choose("down", true); said.down = names(); choose("down", false);
    sortBy("HD95 (mm), CSP"); said.hd95 = names();
    choose("group", data.choices.group.length > 1 ? "=" + data.choices.group[0] : ""); said.group = names();
    choose("group", "");
    choose("class", "=CSP"); said.csp = names().length; choose("class", "");
    press("/"); said.typing = document.activeElement.id;
    choose("find", data.entries[2].case.toUpperCase(), "input"); said.found = names();
    choose("find", "no such case", "input"); said.none = document.getElementById("count").textContent;
    choose("find", "", "input"); press("Escape"); said.left = document.activeElement.tagName;
    press("ArrowRight"); said.focus = focused(); press("ArrowRight"); said.next = focused();
    document.activeElement.click(); said.open = name();
    said.cells = [...document.querySelectorAll("#values td")].map(each => each.textContent).slice(0, 8);
    said.pictures = document.querySelectorAll("#pictures svg").length;
    press("ArrowRight"); said.after = name(); press("ArrowLeft"); press("ArrowLeft"); said.before = name();
    choose("show-reference", false); said.hidden = style("#pictures .reference").display;
    choose("map", "uncertainty"); said.map = style("#pictures .probability").filter;
    press("Escape"); said.closed = name();
    """
    data, said = data_of(pages[REGIONS][1]), driven(pages[REGIONS][1], tmp_path, steps)
    assert "error" not in said, said
    cases = [entry["case"] for entry in data["entries"]]
    assert said["first"] == cases[::-1]  # each later case has a lower Dice
    assert said["down"] == said["hd95"] == cases
    grouped = [entry["case"] for entry in data["entries"] if entry["group"] == data["choices"]["group"][0]]
    assert said["group"] == grouped
    assert (said["csp"], said["found"], said["none"]) == (4, [cases[2]], "0 of 4 cases")
    assert (said["typing"], said["left"]) == ("find", "BODY")
    assert [said[key] for key in ("focus", "next", "open", "after", "before", "closed")] == [
        *(cases[0], cases[1], cases[1], cases[2], cases[0], None)
    ]
    assert said["cells"][0] == "0.947"  # the lowest Dice of the second case: 2 * 901 / (2 * 901 + 40 + 60)
    assert (said["pictures"], said["hidden"], said["map"]) == (1, "none", 'url("#uncertainty")')


@in_browser
def test_wild_names_are_shown_literally_and_run_nothing(pages, tmp_path):
    steps = """
    said.names = names(); said.ran = typeof window.said;
    document.querySelector("#cases .card").click();
    said.title = document.title; said.open = name(); said.facts = document.getElementById("facts").textContent;
    said.wide = document.documentElement.scrollWidth <= window.innerWidth;
    """
    study, page = pages["wild"]
    said = driven(page, tmp_path, steps)
    assert "error" not in said, said
    assert sorted(said["names"]) == sorted(WILD)
    assert (said["ran"], said["open"]) == ("undefined", said["names"][0])
    assert said["title"].startswith(study.title[:60])
    assert SUBJECT in said["facts"]
    assert said["wide"]


@in_browser
def test_the_policy_lets_the_page_run_and_no_other_script(pages, tmp_path):
    page = pages[VOLUMES][1]
    text = dumped(page.replace("</html>", "<script>document.body.innerHTML = 'foreign'</script></html>"), tmp_path)
    assert text.count('class="card"') == len(data_of(page)["entries"])
    assert "<body>foreign" not in text


@in_browser
def test_of_a_thousand_cases_only_pictures_in_view_are_drawn(pages, tmp_path):
    page, data = pages[REGIONS][1], data_of(pages[REGIONS][1])
    one, count = data["entries"][0], 1000
    data["entries"] = [one | {"case": f"case {n}", "values": [n / 1000, *one["values"][1:]]} for n in range(count)]
    old = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1]
    steps = """
    said.cards = document.querySelectorAll("#cases .card").length;
    said.drawn = document.querySelectorAll("#cases svg").length;
    choose("find", "case 99", "input"); said.found = names().length;
    choose("find", "", "input"); choose("down", true); said.first = names()[0];
    """
    said = driven(page.replace(old, gallery.in_script(data)), tmp_path, steps)
    assert "error" not in said, said
    assert (said["cards"], said["found"], said["first"]) == (1000, 11, "case 999")
    assert 0 < said["drawn"] < 100


# --- the script in node, where there is no browser


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_the_order_of_cases_and_the_filters_in_node():
    script = (gallery.TEMPLATE / "gallery.js").read_text(encoding="utf-8")
    pure = script[script.index("function printed") : script.index("function wanted")]
    program = f"""const ALL = "", ANY = "any"; const data = {{ columns: [{{ digits: 2, signed: false }},
      {{ digits: 1, signed: true }}] }};
    {pure}
    const make = (order, values, more) => ({{ order, values, case: "A" + order, subject: "s", fold: "0", seed: "0",
      group: "g", flags: [], classes: [], ...more }});
    const all = [make(0, [2, -9]), make(1, [null, 1]), make(2, [1, 3]), make(3, [1, 3], {{ flags: ["long"],
      classes: ["CSP"], group: "h" }})];
    const order = (place, down) => sorted(all, place, down).map(each => each.order);
    const none = {{ find: "", flag: "", class: "", fold: "", seed: "", group: "" }};
    const kept = more => all.filter(each => matches(each, {{ ...none, ...more }})).map(each => each.order);
    console.log(JSON.stringify([order(0, false), order(0, true), order(1, true), kept({{ find: " a2 " }}),
      kept({{ flag: "any" }}), kept({{ flag: "=long" }}), kept({{ class: "=CSP" }}), kept({{ group: "=g" }}),
      kept({{ fold: "=1" }}), printed(-1.25, data.columns[1]), printed(null, data.columns[0])]));"""
    done = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True)
    without_value_last, by_magnitude = [[2, 3, 0, 1], [0, 2, 3, 1]], [0, 2, 3, 1]
    filtered = [[2], [3], [3], [3], [0, 1, 2], []]
    assert json.loads(done.stdout) == [*without_value_last, by_magnitude, *filtered, "−1.3", "–"]


def test_every_outcome_has_a_colour_in_the_legend(pages):
    for name, colour in preview.OUTCOMES.items():
        assert f'style="background:{colour}"></span>{name}' in pages[REGIONS][1]
