"""The one style sheet: its colours have WCAG's contrast, by day and by night, and all pages use it."""

import re
from importlib import resources

import pytest

from cli.page_style import read_style

# https://www.w3.org/TR/WCAG22/#contrast-minimum and #non-text-contrast
_TEXT, _GRAPHICS = 4.5, 3.0
_INKS = ("--ink", "--soft", "--link", "--good", "--bad", "--warn")
_BARS = ("--c0", "--c1", "--c2", "--c3", "--c4", "--c5")


def _read_colours(theme: str) -> dict[str, str]:
    light, dark = re.findall(r":root \{(.*?)\}", read_style(), re.DOTALL)
    declared = dict(re.findall(r"(--\w+): (#\w+);", light))
    return {**declared, **dict(re.findall(r"(--\w+): (#\w+);", dark))} if theme == "dark" else declared


def _measure_light(colour: str) -> float:
    digits = colour.removeprefix("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    channels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _measure_contrast(ink: str, paper: str) -> float:
    lights = sorted((_measure_light(ink), _measure_light(paper)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def test_the_measure_is_that_of_wcag() -> None:
    assert _measure_contrast("#000", "#ffffff") == pytest.approx(21)
    assert _measure_contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_can_be_read(theme: str) -> None:
    colours = _read_colours(theme)
    papers = [colours["--card"], colours["--page"]]
    texts = {ink: min(_measure_contrast(colours[ink], paper) for paper in papers) for ink in _INKS}
    assert {ink: ratio for ink, ratio in texts.items() if ratio < _TEXT} == {}
    bars = {bar: _measure_contrast(colours[bar], colours["--card"]) for bar in _BARS}
    assert {bar: ratio for bar, ratio in bars.items() if ratio < _GRAPHICS} == {}
    # The text of a button is on the colour of links, the border of a field on the page.
    assert _measure_contrast(colours["--card"], colours["--link"]) >= _TEXT
    assert _measure_contrast(colours["--soft"], colours["--page"]) >= _GRAPHICS


def test_no_colour_is_declared_but_once() -> None:
    style = read_style()
    body = re.sub(r":root \{.*?\}", "", style, flags=re.DOTALL)
    # White paper aside.
    assert set(re.findall(r"#[0-9a-f]{3,6}\b", body)) <= {"#fff"}
    used = set(re.findall(r"var\((--\w+)\)", style))
    assert used <= set(_read_colours("light"))
    assert set(_read_colours("dark")) == set(_read_colours("light"))
    assert not re.search(r"@import|url\((?!#)|https?:", style)


def test_all_pages_have_this_style() -> None:
    for package, template in (("oncall.web", "base"), ("pipeline", "stats"), ("serving", "try_it")):
        text = (resources.files(package) / "templates" / f"{template}.html.j2").read_text()
        assert re.findall(r"<style[^>]*>(.*?)</style>", text, re.DOTALL) == ["{{ style }}"]
