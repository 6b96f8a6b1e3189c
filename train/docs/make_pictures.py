"""Renew the pictures at the top of the README: a terminal with a report, and the HTML page of the same scan.

usage: python train/docs/make_pictures.py    (with forensic_cli and train/ on the path; needs Chromium and its driver)
"""

import os
import pty
import shutil
import subprocess
import sys
import tempfile
import time
from io import BytesIO, StringIO
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text
from selenium import webdriver

ROOT = Path(__file__).parents[2]
IMAGES = Path(__file__).with_name("images")
COMMAND = ("scan", "tests/samples")
COLUMNS = 150
"""Of the terminal. Wide enough that no row of the report wraps, and still legible in the README."""
WINDOW = (1280, 1000)
"""Width and height of the browser's window, in CSS pixels."""
_BACKGROUND = "rgb({}, {}, {})".format(*SVG_EXPORT_THEME.background_color)
_FONT = "Menlo, Consolas, 'DejaVu Sans Mono', monospace"
# rich's own template, without its window buttons and its fonts, which a viewer would have to fetch.
_SVG = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 -4 {{width}} {{height}}">
<style>
.{{unique_id}}-matrix {{{{ font-family: {_FONT}; font-size: {{char_height}}px; line-height: {{line_height}}px; }}}}
{{styles}}
</style>
<defs>{{lines}}</defs>
<rect x="-12" y="-4" width="100%" height="100%" rx="8" fill="{_BACKGROUND}"/>
{{backgrounds}}
<g class="{{unique_id}}-matrix">
{{matrix}}
</g>
</svg>
"""


def terminal_output(*words: str) -> str:
    """Run genforensic as a terminal would, and return what it prints there, colours included."""
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "forensic_cli", *words, "--quiet"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=child, stdout=child)
    os.close(child)
    chunks = []
    try:
        while chunk := os.read(parent, 65536):
            chunks.append(chunk)
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(parent)
    process.wait()
    return b"".join(chunks).decode().replace("\r\n", "\n")


def terminal_picture() -> str:
    """Return an SVG of the scan in a terminal."""
    console = Console(file=StringIO(), record=True, width=COLUMNS + 2, force_terminal=True, highlight=False)
    console.print(Text(f"$ genforensic {' '.join(COMMAND)}", style="bold"))
    console.print(Text.from_ansi(terminal_output(*COMMAND)))
    return console.export_svg(theme=SVG_EXPORT_THEME, code_format=_SVG, unique_id="scan", font_aspect_ratio=0.602)


def page_picture() -> Image.Image:
    """Return a screenshot of the HTML page of the scan."""
    folder = Path(tempfile.mkdtemp())
    try:
        page = folder / "samples.html"
        words = [*COMMAND, "--output", str(page), "--quiet"]
        subprocess.run([sys.executable, "-m", "forensic_cli", *words], cwd=ROOT, check=False)
        return screenshot(page)
    finally:
        shutil.rmtree(folder)


def screenshot(page: Path) -> Image.Image:
    """Return what a headless Chromium shows of a page."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(option)
    options.add_argument(f"--window-size={WINDOW[0]},{WINDOW[1]}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        browser.get(page.as_uri())
        time.sleep(2)  # thumbnails are decoded after the page has loaded
        return Image.open(BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    finally:
        browser.quit()


def main() -> None:
    """Write both pictures."""
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "terminal.svg").write_text(terminal_picture(), encoding="utf-8")
    page_picture().save(IMAGES / "page.jpg", quality=88, optimize=True, progressive=True)


if __name__ == "__main__":
    main()
