"""Tests of the HTML report in headless Chromium: what a reader sees and does. Skipped where there is no browser."""

import json
import random
import shutil
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from forensic_cli.card import LikelihoodRatio
from pages import HEADER, MODEL, made_up_row
from toys import DECISION, LABELS, make_images, solid, write_toy_exports

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
SECONDS_TO_OPEN = 15
"""For 10,000 rows; an idle core needs less than one."""

HOSTILE = ('"><img src=x onerror=window.pwned=1>.png', "<script>window.pwned=2<!--.png", "'`${window.pwned=3}.png")

CONTRASTS = """
const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
const colour = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
const behind = (one) => {
  for (; one; one = one.parentElement) {
    const c = colour(getComputedStyle(one).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c;
  }
  return [255, 255, 255];
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const one = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !one.checkVisibility()) continue;
  if (one.closest("svg, script, style, :disabled")) continue;
  const both = [luminance(colour(getComputedStyle(one).color)), luminance(behind(one))];
  found.push([(Math.max(...both) + 0.05) / (Math.min(...both) + 0.05), one.tagName + "." + one.className]);
}
return found;
"""

TOO_WIDE = """
const sticksOut = (e) => e.getBoundingClientRect().right > innerWidth + 1 || innerWidth > arguments[0];
return [...document.querySelectorAll("body *")]
  .filter((e) => e.checkVisibility() && !e.closest(".scroll, .skip") && sticksOut(e))
  .map((e) => e.outerHTML.slice(0, 80));
"""

NAMELESS = """
const named = (e) => e.labels?.length || e.innerText?.trim() || e.hasAttribute("alt");
return [...document.querySelectorAll("input, select, button, a, img")]
  .filter((e) => e.checkVisibility() && !named(e))
  .map((e) => e.outerHTML.slice(0, 80));
"""


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """Return a headless browser without a network."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no browser: chromium and chromedriver are not installed (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1000"):
        options.add_argument(option)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )
    yield browser
    browser.quit()


class Reader:
    """A person at a page."""

    def __init__(self, driver: Any, path: Path) -> None:
        self.driver = driver
        self.url = path.as_uri()
        driver.get("about:blank")
        driver.get_log("browser")
        driver.get(self.url)

    def __call__(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        for key in keys:
            ActionChains(self.driver).send_keys(getattr(Keys, key, key)).perform()

    def click(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def choose(self, selector: str, value: str) -> None:
        from selenium.webdriver.support.select import Select

        Select(self.driver.find_element("css selector", selector)).select_by_value(value)

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self("return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)", selector)
        return found

    def wait(self, condition: str) -> None:
        end = time.monotonic() + 5
        while not self(f"return Boolean({condition})"):
            assert time.monotonic() < end, f"never came true: {condition}"
            time.sleep(0.02)

    @property
    def names(self) -> list[str]:
        """File names in the gallery."""
        return self.texts(".card .name")

    @property
    def complaints(self) -> list[str]:
        """What the browser has logged: errors, and what the policy refused."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of a scan of six images and a broken one."""
    from typer.testing import CliRunner

    from forensic_cli.main import app

    folder = tmp_path_factory.mktemp("html")
    ratio = LikelihoodRatio(1.0, 0.0, -2.0, 2.0)
    weighed = replace(DECISION, generated=ratio, ratios={"alpha": ratio})
    toy_exports = write_toy_exports(folder / "exports", decisions={"any": weighed})
    images = make_images(folder / "images")
    solid(images / "7-wide.png", (0, 255, 0, 128), (200, 60))
    (images / "6-broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    results = folder / "case.jsonl"
    runner = CliRunner()
    scan = ["scan", images, "--exports", toy_exports, "-t", "all", "-f", "jsonl", "-o", results]
    assert runner.invoke(app, [str(one) for one in scan]).exit_code == 1
    report = ["report", results, "--html", folder / "page.html", "--exports", toy_exports]
    assert runner.invoke(app, [str(one) for one in report]).exit_code == 0
    return folder / "page.html"


@pytest.fixture
def reader(driver: Any, page: Path) -> Iterator[Reader]:
    """Return a reader of the page; nothing may be logged while it reads."""
    reader = Reader(driver, page)
    yield reader
    assert reader.complaints == []


def no_more(number: int) -> dict[str, Any]:
    """Return no further fields."""
    return {}


def large_page(
    tmp_path: Path,
    run: Any,
    count: int,
    name: str = "{}.png",
    more: Callable[[int], dict[str, Any]] = no_more,
    labels: Sequence[str] = LABELS,
) -> Path:
    """Return the page of made-up rows; `more`: further fields of a row by its number."""
    scores = dict.fromkeys(labels, 0.125) | {"real": 0.75}
    run_header = {**HEADER, "models": [{**MODEL, "technique": "baseline", "labels": labels}]}
    with (tmp_path / "r.jsonl").open("w") as out:
        out.write(json.dumps({"genforensic": run_header}) + "\n")
        for number in range(count):
            row = made_up_row(name.format(number), **{"verdict": "real", "scores": scores, **more(number)})
            out.write(json.dumps(row) + "\n")
    done = run("report", tmp_path / "r.jsonl", "--html", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    return tmp_path / "page.html"


def test_the_gallery_sorts(reader: Reader) -> None:
    # Generated ones come first, the surest first; then real, then undecided
    assert reader.names[2:] == ["7-wide.png", "1-red.png", "4-grey.png", "5-tiny.png", "6-broken.png"]
    assert [text.split("\n")[0] for text in reader.texts(".card .line")] == [
        *["generated"] * 3,
        *("real", "undecided", "undecided", "truncated"),
    ]
    reader.choose("#sort", "file")
    expected = ["1-red.png", "2-green.webp", "3-blue.bmp", "4-grey.png", "5-tiny.png", "6-broken.png", "7-wide.png"]
    assert reader.names == expected
    reader.click("#down")
    assert reader.names == expected[::-1]


def test_the_gallery_filters(reader: Reader) -> None:
    reader.choose("#verdict", "alpha")
    assert sorted(reader.names) == ["2-green.webp", "7-wide.png"]
    assert reader.texts("#count") == ["2 of 7 files"]
    reader.choose("#headline", "undecided")
    assert reader.names == []
    reader.choose("#headline", "generated")
    reader.click("#warned")
    assert reader.names == ["7-wide.png"]
    reader.click("#filters button[type=reset]")
    reader.wait("document.querySelectorAll('.card').length === 7")
    reader.click('.pick[data-verdict="!truncated"]')
    reader.wait("document.querySelectorAll('.card').length === 1")
    assert reader.names == ["6-broken.png"]
    reader.click('.pick[data-headline="undecided"]')
    reader.wait("document.querySelectorAll('.card').length === 2")
    assert reader.names == ["4-grey.png", "5-tiny.png"]


def test_search_finds_names_and_fields(reader: Reader) -> None:
    reader("document.querySelector('.card').click()")
    reader.wait("!document.getElementById('image').hidden")
    reader.press("/", *"png RED")
    assert reader.names == ["1-red.png"]
    reader.press(*"zzz")
    assert reader.names == []
    assert reader.texts("#count") == ["None of 7 files matches; clear the filters to see them all."]
    reader.press("ESCAPE")
    reader.wait("document.querySelectorAll('.card').length === 7")


def test_keys_walk_through_the_gallery_and_the_images(reader: Reader) -> None:
    reader.choose("#sort", "file")
    reader("document.querySelector('.card').focus()")
    reader.press("ARROW_RIGHT", "ARROW_RIGHT", "ARROW_LEFT", "ENTER")
    reader.wait("!document.getElementById('image').hidden")
    assert reader.texts("#image-title") == ["2-green.webp"]
    assert reader("return document.activeElement.id") == "image-title"
    reader.press("ARROW_RIGHT")
    reader.wait("location.hash === '#image-3'")
    reader.wait("document.getElementById('image-title').innerText.includes('3-blue.bmp')")
    reader.press("ESCAPE")
    reader.wait("document.getElementById('image').hidden")
    assert reader("return document.activeElement.querySelector('.name').innerText") == "3-blue.bmp"
    reader.press("HOME")
    assert reader("return document.activeElement.querySelector('.name').innerText") == "1-red.png"
    reader.press("ARROW_DOWN", "END")
    assert reader("return document.activeElement.querySelector('.name').innerText") == "7-wide.png"


def test_the_page_of_an_image_shows_what_its_verdict_rests_on(reader: Reader) -> None:
    reader.driver.get(f"{reader.url}#image-1")
    assert reader.texts(".answer p") == [
        "Real, not made by a generator: the evidence gives moderate support.",
        "The probability that a generator made it is 0.020, assuming even odds beforehand.",
        "The measurement is 27 times more probable if the image is real than if it is generated.",
        "4 of 4 techniques rank real first.",
        "It was judged as PNG, lossless.",
    ]
    reader.driver.get(f"{reader.url}#image-2")
    assert reader.texts(".finding") == ["Generated by alpha: the evidence gives moderate support."]
    assert (
        "The measurement is 55 times more probable if alpha made the image than if another known generator did."
        in (reader.texts(".answer")[0])
    )
    reader.driver.get(f"{reader.url}#image-5")
    assert reader.texts(".answer p")[:2] == [
        "Undecided: the evidence is not sufficient for an answer.",
        "The models were not validated on images like this one (padded, tiny).",
    ]
    reader.driver.get(f"{reader.url}#image-1")
    captions = reader.texts(".scores caption")
    assert captions == ["all techniques, fused by mean", "adversarial", "baseline", "finetune", "weighted"]
    row = reader.texts(".scores:nth-of-type(3) tbody tr:first-child > *")
    assert (row[0].strip(), row[2]) == ("real", "0.965")
    widths = reader("return [...document.querySelectorAll('.scores td .bar')].map((e) => e.firstChild.getBBox().width)")
    assert widths[:3] == pytest.approx([98.0, 1.0, 1.0], abs=0.1)
    assert reader("return document.querySelector('#image .facts code').innerText.length") == 64


def test_the_evidence_map_lies_on_the_patches(reader: Reader) -> None:
    """The wide green image, 200 x 60: two rows of two patches of 32 pixels, with gaps between them."""
    reader.driver.get(f"{reader.url}#image-7")
    reader.wait("document.querySelector('.frame img').complete")
    places = reader(
        "const sides = ['x', 'y', 'width', 'height'];"
        "return [...document.querySelectorAll('.heat rect')].map((e) => sides.map((name) => +e.getAttribute(name)))"
    )
    assert places == [
        pytest.approx(place, abs=0.05)
        for place in ([0, 0, 32, 32], [168, 0, 32, 32], [0, 28, 32, 32], [168, 28, 32, 32])
    ]
    image, heat = reader(
        "return ['.frame img', '.heat'].map((s) => document.querySelector(s).getBoundingClientRect().toJSON())"
    )
    assert {name: heat[name] for name in ("x", "y", "width", "height")} == pytest.approx(
        {name: image[name] for name in ("x", "y", "width", "height")}, abs=1
    )
    assert reader("return document.querySelector('.heat text').textContent") == "0.98"
    reader.choose("#map-label", "2")
    assert reader("return document.querySelector('.heat text').textContent") == "0.01"
    legend = reader.texts(".evidence figcaption p")[0]
    assert legend.startswith("Patches, by all techniques, averaged: the probability of beta")
    reader.click("#map-visible")
    assert reader("return document.querySelector('.heat')") is None


def test_an_image_that_was_not_judged_says_why(reader: Reader) -> None:
    reader.driver.get(f"{reader.url}#image-6")
    assert reader.texts(".finding") == ["Not judged: looks like PNG, but the file ends within its header."]
    assert reader.texts(".evidence") == ["No picture: the file could not be read when it was scanned."]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", ["", "#image-1", "#image-6", "#image-7"])
def test_text_has_contrast(reader: Reader, scheme: str, place: str) -> None:
    """WCAG 2.1 AA: 4.5 to 1."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    reader.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    reader.driver.get(f"{reader.url}{place}")
    back = reader("return getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(246, 247, 249)") == (scheme == "light")
    found = reader(CONTRASTS)
    assert len(found) > 20
    assert [one for one in found if one[0] < 4.5] == []
    reader.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_dark_and_light_can_be_chosen(reader: Reader) -> None:
    before = reader("return getComputedStyle(document.body).backgroundColor")
    reader.click("#theme")
    assert reader("return getComputedStyle(document.body).backgroundColor") != before
    reader.driver.refresh()
    assert reader("return getComputedStyle(document.body).backgroundColor") != before
    reader.click("#theme")
    assert reader("return getComputedStyle(document.body).backgroundColor") == before
    reader("localStorage.clear()")


@pytest.mark.parametrize("place", ["", "#image-1", "#image-7"])
def test_nothing_is_wider_than_a_phone(reader: Reader, place: str) -> None:
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    reader.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    reader.driver.get(f"{reader.url}{place}")
    wide = reader(TOO_WIDE, phone["width"])
    reader.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide == []


def test_print_leaves_the_controls_out(reader: Reader) -> None:
    reader.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = [
        reader("return document.querySelector(arguments[0]).checkVisibility()", selector)
        for selector in ("#filters", "#theme", ".tile", ".card")
    ]
    assert shown == [False, False, True, True]
    reader.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


LONG_LABELS = ("real", "stable_diffusion", "taming_transformers", "guided_diffusion")
BROKEN_WORDS = """
const badges = [...document.querySelectorAll(".badge")].filter((e) => e.checkVisibility());
const pieces = badges.flatMap((e) => [...e.childNodes]);
const lines = (text) => {
  const range = document.createRange();
  range.selectNodeContents(text);
  return new Set([...range.getClientRects()].map((r) => r.top)).size;
};
return pieces.filter((e) => e.nodeType === Node.TEXT_NODE && lines(e) > 1).map((e) => e.data);
"""


@pytest.fixture(scope="module")
def long_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of 285 rows whose labels are long names."""
    from typer.testing import CliRunner

    from forensic_cli.main import app

    def more(number: int) -> dict[str, Any]:
        label = LONG_LABELS[number % 4]
        named = {"verdict": ("inconclusive", label)[number % 2], "headline": "real" if label == "real" else "generated"}
        return {"label": label, "candidates": list(LONG_LABELS[1:]), **named}

    def run(*arguments: Any) -> Any:
        return CliRunner().invoke(app, [str(one) for one in arguments])

    folder = tmp_path_factory.mktemp("long")
    return large_page(folder, run, 285, "case_17/an_image_with_a_long_name_{}.png", more, LONG_LABELS)


@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.parametrize("place", ["", "#image-3"])
def test_a_badge_breaks_behind_an_underscore_alone_and_nothing_sticks_out(
    driver: Any, long_names: Path, width: int, place: str
) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    reader = Reader(driver, long_names)
    driver.get(f"{reader.url}{place}")
    broken, wide = reader(BROKEN_WORDS), reader("return document.documentElement.scrollWidth")
    room = reader("return document.documentElement.clientWidth")
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert broken == []
    assert wide <= room


def test_print_has_every_card_and_the_screen_its_page_again(driver: Any, long_names: Path) -> None:
    reader = Reader(driver, long_names)
    reader.click("#later")
    before = reader.names
    reader("addEventListener('beforeprint', () => (window.printed = document.querySelectorAll('.card').length))")
    driver.execute_cdp_cmd("Page.printToPDF", {})
    assert reader("return window.printed") == 285
    assert reader.names == before
    assert reader.texts("#count") == ["285 files, page 2 of 5"]


def test_print_cuts_no_card(driver: Any, long_names: Path) -> None:
    """Content that ends where the paper does loses its last line of pixels."""
    reader = Reader(driver, long_names)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 688, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    parts = "[...document.querySelectorAll('.card, .card *')]"
    right = reader(f"return Math.max(...{parts}.map((e) => e.getBoundingClientRect().right))")
    room = reader("return document.documentElement.clientWidth")
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert right <= room - 1


@pytest.mark.parametrize(("stored", "typed"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_search_finds_an_accent_in_either_form(driver: Any, tmp_path: Path, run: Any, stored: Any, typed: Any) -> None:
    name = unicodedata.normalize(stored, "Été-{}.png")
    reader = Reader(driver, large_page(tmp_path, run, 2, name))
    reader(
        "const query = document.getElementById('query'); query.value = arguments[0];"
        "query.dispatchEvent(new Event('input', { bubbles: true }));",
        unicodedata.normalize(typed, "été-1"),
    )
    assert reader.names == [name.format(1)]


def test_every_column_has_a_title(reader: Reader) -> None:
    for place in ("", "#image-1"):
        reader.driver.get(f"{reader.url}{place}")
        assert reader("return [...document.querySelectorAll('th')].filter((e) => !e.textContent.trim()).length") == 0
        assert reader("return document.querySelectorAll('th').length") > 4


def test_roles_and_names_for_those_who_cannot_see(reader: Reader) -> None:
    assert reader(NAMELESS) == []
    assert reader("return document.querySelectorAll('.card[tabindex=\"0\"]').length") == 1
    assert reader("return document.getElementById('count').getAttribute('role')") == "status"
    reader.driver.get(f"{reader.url}#image-7")
    assert reader(NAMELESS) == []
    assert reader("return document.querySelector('.heat').getAttribute('aria-label')") == "Evidence map for alpha"
    assert len(reader.texts(".evidence details")) == 1


@pytest.mark.parametrize("evil", HOSTILE)
def test_a_hostile_name_does_not_run(driver: Any, tmp_path: Path, run: Any, toy_exports: Path, evil: str) -> None:
    folder = tmp_path / "in" / "<" / "script><script>window.pwned=4<"
    folder.mkdir(parents=True)
    said = PngImagePlugin.PngInfo()
    said.add_text("Software", evil)
    said.add_text("parameters", f"{evil}\nSteps: 2, Sampler: {evil}")
    solid(tmp_path / "x.png", (255, 0, 0), pnginfo=said).rename(folder / evil)
    shutil.copy(folder / evil, folder / f"copy{evil}")
    page = tmp_path / "page.html"
    done = run("scan", tmp_path / "in", "--exports", toy_exports, "-f", "html", "-o", page)
    assert done.exit_code == 0
    reader = Reader(driver, page)
    assert reader.names == [evil]
    reader.click(".card")
    reader.wait("!document.getElementById('image').hidden")
    software, settings = [text.split("\n")[1] for text in reader.texts("#image .facts dd:has(.value)")]
    assert (software, settings) == (evil, f"parameters: {evil} Steps: 2, Sampler: {evil}")
    assert evil in reader.texts("#image section:last-child .facts dd")[0]
    assert [evil in text for text in reader.texts(".member .path")] == [True, True]
    time.sleep(0.1)
    assert reader("return window.pwned === undefined && document.querySelectorAll('img[src=x]').length === 0")
    assert reader.complaints == []


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, toy_exports: Path) -> Path:
    """Return the page of a scan with --dedupe.

    A finding of four red images (the first one, its copy, one with a claim, one whose answer is changed), a green one
    that says that a camera took it, a blue one, and two of one broken content.
    """
    from typer.testing import CliRunner

    from forensic_cli.main import app

    folder = tmp_path_factory.mktemp("case")
    images = folder / "images"
    images.mkdir()
    said, camera = PngImagePlugin.PngInfo(), Image.Exif()
    said.add_text("Software", "Ex-2 studio")
    camera[0x010F] = "Ex-1"
    solid(images / "1-red.png", (255, 0, 0))
    shutil.copy(images / "1-red.png", images / "2-copy.png")
    solid(images / "3-said.png", (255, 0, 0), pnginfo=said)
    solid(images / "4-sent.png", (255, 0, 0), (50, 45))
    patterned(images / "5-green.png", (0, 255, 0), 0, exif=camera)
    patterned(images / "6-blue.png", (0, 0, 255), 1)
    for name in ("7-broken.png", "8-broken.png"):
        (images / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    results = folder / "case.jsonl"
    runner = CliRunner()
    scan = ["scan", images, "--exports", toy_exports, "--dedupe", "-f", "jsonl", "-o", results]
    assert runner.invoke(app, [str(one) for one in scan]).exit_code == 1
    header, *lines, _ = results.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows[3] |= {"headline": "undecided", "verdict": "inconclusive"}
    results.write_text("\n".join([header, *map(json.dumps, rows)]) + "\n")
    report = ["report", results, "--html", folder / "page.html", "--exports", toy_exports]
    assert runner.invoke(app, [str(one) for one in report]).exit_code == 0
    return folder / "page.html"


def patterned(path: Path, colour: tuple[int, int, int], seed: int, **options: Any) -> None:
    """Write an image of one hue in 8 x 8 squares, so that its perceptual hash is its own."""
    squares = Image.frombytes("L", (8, 8), random.Random(seed).randbytes(64))
    ramp = squares.resize((40, 40)).point(lambda v: 160 + v // 3)
    Image.merge("RGB", [ramp if one else Image.new("L", ramp.size) for one in colour]).save(path, **options)


@pytest.fixture
def analyst(driver: Any, case: Path) -> Iterator[Reader]:
    """Return a reader of the page with findings."""
    reader = Reader(driver, case)
    yield reader
    assert reader.complaints == []


def test_a_finding_is_one_card(analyst: Reader) -> None:
    analyst.choose("#sort", "file")
    assert analyst.names == ["1-red.png", "5-green.png", "6-blue.png", "7-broken.png"]
    assert analyst.texts(".many") == ["4 files", "2 files"]
    assert analyst.texts("#count") == ["8 files on 4 cards"]
    assert "answers differ" in analyst.texts(".card")[0]
    analyst.click("#grouped")
    assert len(analyst.names) == 8
    assert analyst.texts(".many") == []
    assert analyst.texts("#count") == ["8 files"]
    assert analyst.texts(".card .flags")[0] == "copy"


def test_a_finding_is_shown_when_any_of_its_files_fits(analyst: Reader) -> None:
    analyst.press("/", *"ex-2 studio")
    assert analyst.names == ["1-red.png"]
    assert analyst.texts("#count") == ["1 of 4 cards"]
    assert "1 of 4 match" in analyst.texts(".flags")[0]
    analyst.click("#filters button[type=reset]")
    analyst.wait("document.querySelectorAll('.card').length === 4")
    analyst.choose("#verdict", "inconclusive")
    assert analyst.names == ["1-red.png"]
    analyst.click("#grouped")
    assert analyst.names == ["4-sent.png"]


def test_the_page_of_an_image_lists_its_finding(analyst: Reader) -> None:
    analyst.driver.get(f"{analyst.url}#image-2")
    assert [text.split("\n")[1] for text in analyst.texts(".member")] == [
        *("real copy", "real this image", "real near-duplicate", "undecided near-duplicate")
    ]
    assert "The answers differ: 3 real, 1 undecided." in analyst.texts("#image .alert")[0]
    assert "1-red.png" in dict(zip(analyst.texts(".facts dt"), analyst.texts(".facts dd"), strict=True))["Copy of"]
    analyst.click("li:nth-child(4) > .member")
    analyst.wait("document.getElementById('image-title').innerText.includes('4-sent.png')")
    place = analyst.texts(".steps span")[0]
    analyst.press("ESCAPE")
    analyst.wait("document.getElementById('image').hidden")
    assert analyst("return document.activeElement.querySelector('.name').innerText") == "1-red.png"
    assert place == f"{analyst.names.index('1-red.png') + 1} of 4"


def test_findings_whose_verdicts_differ_can_be_picked(analyst: Reader) -> None:
    analyst.click('.pick[data-check="mixed"]')
    analyst.wait("document.querySelectorAll('.card').length === 1")
    assert analyst.names == ["1-red.png"]


def test_what_a_file_says_of_itself_stands_in_words(analyst: Reader) -> None:
    analyst.click('.pick[data-check="conflict"]')
    analyst.wait("document.querySelectorAll('.card').length === 1")
    assert analyst.names == ["5-green.png"]
    analyst.driver.get(f"{analyst.url}#image-5")
    analyst.wait("!document.getElementById('image').hidden")
    (section,) = (
        text for text in analyst.texts("#image section") if text.startswith("What the file says about itself")
    )
    assert [line for line in section.split("\n") if line] == [
        "What the file says about itself",
        "Anyone can write, forge or remove this. It does not influence the answer.",
        "Conflict: the file says that it was photographed or scanned, but the answer is generated. Either may be "
        "wrong: what a file says can be forged or copied from another file, and an answer is not proof.",
        "EXIF",
        "the file says that a camera took it, or that it was digitised",
        "Ex-1",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", ["", "#image-2", "#image-5"])
def test_findings_have_contrast_names_and_room_on_a_phone(analyst: Reader, scheme: str, place: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    analyst.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    analyst.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    analyst.driver.get(f"{analyst.url}{place}")
    found = [[one for one in analyst(CONTRASTS) if one[0] < 4.5], analyst(NAMELESS), analyst(TOO_WIDE, phone["width"])]
    analyst.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    analyst.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert found == [[], [], []]


def test_the_policy_stops_what_would_get_in(reader: Reader) -> None:
    """The second wall: a handler that a script sets, HTML in a string and a request are all refused."""
    reader("""
      const image = document.createElement("img");
      image.setAttribute("src", "x");
      document.body.append(image);
      try { image.setAttribute("onerror", "window.pwned = 5"); } catch { window.handler = "refused"; }
      try { document.body.innerHTML = "<b>x</b>"; } catch { window.html = "refused"; }
      fetch("data:text/plain,x").catch(() => { window.fetched = "refused"; });
    """)
    reader.wait("window.fetched")
    assert reader("return [window.handler, window.html, window.fetched, window.pwned]") == [*["refused"] * 3, None]
    assert len([one for one in reader.complaints if "Content Security Policy" in one]) >= 2


def test_ten_thousand_rows_open_in_bounded_time(driver: Any, tmp_path: Path, run: Any) -> None:
    page = large_page(tmp_path, run, 10_000)
    start = time.monotonic()
    reader = Reader(driver, page)
    assert reader.texts("#count") == ["10,000 files, page 1 of 167"]
    assert time.monotonic() - start < SECONDS_TO_OPEN
    assert reader("return document.querySelectorAll('*').length") < 3000
    reader.choose("#sort", "file")
    reader("document.querySelector('.card').focus()")
    reader.press("END", "ARROW_RIGHT")
    assert reader.texts("#count") == ["10,000 files, page 2 of 167"]
    assert reader("return document.activeElement.innerText.split('\\n').length") > 1
    reader("document.getElementById('query').value = '9999.png'")
    reader.press("/", "BACKSPACE")
    reader.wait("document.querySelectorAll('.card').length === 1")
    assert reader.names == ["9999.png"]
    assert reader.complaints == []


def test_ten_thousand_rows_in_few_findings_open_in_bounded_time(driver: Any, tmp_path: Path, run: Any) -> None:
    """9,000 rows in one finding, the others in pairs."""

    def found(number: int) -> dict[str, Any]:
        return {"cluster": 1 if number < 9000 else number // 2, "verdict": "inconclusive" if number % 2 else "real"}

    page = large_page(tmp_path, run, 10_000, more=found)
    start = time.monotonic()
    reader = Reader(driver, page)
    assert reader.texts("#count") == ["10,000 files on 501 cards, page 1 of 9"]
    reader.click("#mixed")
    reader.press("/", *"9999.png")
    assert reader.names == ["9998.png"]
    reader.driver.get(f"{reader.url}#image-1")
    assert len(reader.texts(".member")) == 60
    assert "4,500 real, 4,500 undecided" in reader.texts("#image .alert")[0]
    reader.click("#image section button")
    assert len(reader.texts(".member")) == 120
    assert reader("return document.activeElement.getAttribute('href')") == "#image-61"
    assert time.monotonic() - start < SECONDS_TO_OPEN
    assert reader.complaints == []


def test_a_page_of_bare_rows_opens(driver: Any, tmp_path: Path, run: Any) -> None:
    page = large_page(tmp_path, run, 1, "folder/{}\u202e\n.png")
    reader = Reader(driver, page)
    assert reader.names == [r"0\u{202e}\u{a}.png"]
    reader.click(".card")
    reader.wait("!document.getElementById('image').hidden")
    assert reader.texts(".evidence") == ["No picture: the file is no longer where the scan found it."]
    assert reader.complaints == []
