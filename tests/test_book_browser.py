"""The built book in Chromium: read by eye, keyboard, screen reader and search, in both themes and on a phone."""

# Every page is opened once and looked at in both themes and widths, since typesetting its equations takes longest.

import gzip
import io
import re
from pathlib import Path
from typing import NamedTuple

import axe_playwright_python
import pytest
from PIL import Image
from results_in_text.records import VERDICT_CLASSES

from tests.built_book import BOOK, THEMES, WIDTHS, needs_browser, pages_of

pytestmark = needs_browser
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
COLOURS = ["color-contrast", "link-in-text-block"]
WEIGHT_LIMIT = 1.5e6
# The theme's script looks at code again a moment after the window has changed.
CODE_CAN_BE_REACHED = """
() => [...document.querySelectorAll('pre')].every(code => code.scrollWidth <= code.clientWidth || code.tabIndex === 0)
"""
# The first text of each look: what has the same ink on the same grounds, in letters of one size, has one contrast.
# (Of one letter axe never says that its contrast is too low.)
ONE_OF_EACH_LOOK = """({ include: (() => {
  const inks = new Map(), grounds = new Map(), first = new Map();
  for (const element of document.querySelectorAll('*')) {
    const style = getComputedStyle(element), around = element.parentElement, box = element.getBoundingClientRect();
    const ground = [style.backgroundColor, style.backgroundImage, style.opacity].join();
    const shows = ground !== 'rgba(0, 0, 0, 0),none,1';
    inks.set(element, [style.color, style.fontSize, style.fontWeight, style.textDecorationLine].join());
    grounds.set(element, (grounds.get(around) ?? '') + (shows ? `${ground};` : ''));
    const look = [inks.get(element), inks.get(around), grounds.get(element)].join();
    const says = [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim()[1]);
    const isSeen = element.checkVisibility({ visibilityProperty: true }) && box.width > 1 && box.right > 0;
    if ((says || element.matches('a, input, select')) && isSeen && !first.has(look)) first.set(look, element);
  }
  return [...first.values()];
})() })"""
# A page's elements are the same in both themes, and their colours at both widths; colours take most of the time: in
# the dark they are looked at once a look. Typeset mathematics is most of the elements. Its colour is that of the text
# around it, in both themes: that is looked at without axe, and the elements themselves once.
LOOKS = {
    ("light", "wide"): (WCAG, "document"),
    ("dark", "wide"): ({"runOnly": {"type": "rule", "values": COLOURS}}, ONE_OF_EACH_LOOK),
    ("light", "phone"): (
        {**WCAG, "rules": {rule: {"enabled": False} for rule in COLOURS}},
        "({ exclude: [['mjx-container']] })",
    ),
}
MATHS_OF_ANOTHER_COLOUR = """
[...document.querySelectorAll('mjx-container')].filter(
  maths => getComputedStyle(maths).color !== getComputedStyle(maths.parentElement).color).length
"""


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def violations(page, rules=WCAG, context="document"):
    """What axe-core finds against WCAG 2.1 AA in a context: rule, element, reason."""
    options = {**rules, "resultTypes": ["violations"]}
    found = page.evaluate(f"options => axe.run({context}, options)", options)["violations"]
    return [
        (rule["id"], node["target"], node["any"][0]["message"] if node["any"] else rule["help"])
        for rule in found
        for node in rule["nodes"]
    ]


def turn_to(page, theme):
    page.evaluate("theme => Object.assign(document.documentElement.dataset, { theme, mode: theme })", theme)


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour[:3])]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast_of(one, other):
    """Contrast after WCAG 2: (lighter + 0.05) / (darker + 0.05) of relative luminances."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def contrast(page, element):
    styles = page.evaluate("e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]", element)
    return contrast_of(*([float(part) for part in re.findall(r"[0-9.]+", style)] for style in styles))


# --- every page ----------------------------------------------------------------------------------------------


def written_pages(html_folder):
    """Pages that somebody wrote, and one of each kind that is generated in numbers."""
    pages = [path.relative_to(html_folder).as_posix() for path in pages_of(html_folder)]
    written = {path.relative_to(BOOK).with_suffix(".html").as_posix() for path in BOOK.rglob("*.md")}
    kinds = {}
    for page in pages:
        if page not in written:
            kinds.setdefault(page.partition("/")[0], page)
    return sorted(written.intersection(pages)) + sorted(kinds.values())


class Visit(NamedTuple):
    """What was seen on a page that was opened once, with all its images loaded."""

    requested: list[str]
    equations: int
    typeset: int
    in_error: int
    problems: list[tuple]


ONE_OF_A_KIND = re.compile(r"(?!replications/)|replications/(lion|sector_points)\b")


@pytest.fixture(scope="module", params=[ONE_OF_A_KIND, pytest.param(re.compile(""), marks=pytest.mark.soak)])
def visits(request, address, html_folder, new_page):
    """A visit of every page; in the suite, of a large and a small replication's."""
    seen = {}
    for name in filter(request.param.match, written_pages(html_folder)):
        page = new_page(f"{address}/{name}")
        page.evaluate("document.querySelectorAll('img').forEach(image => (image.loading = 'eager'))")
        page.wait_for_function("[...document.images].every(image => image.complete)")
        counts = [page.locator(elements).count() for elements in (".math", "mjx-container", "mjx-merror")]
        seen[name] = Visit(list(page.requested), *counts, problems_in_all_looks(page))
        page.context.close()
    return seen


def problems_in_all_looks(page):
    """What is wrong with a page in some theme and width: theme, width, and what."""
    found = []
    page.evaluate(AXE)
    for (theme, width), looked_for in LOOKS.items():
        turn_to(page, theme)
        page.set_viewport_size({"width": WIDTHS[width], "height": 900})
        page.wait_for_function(CODE_CAN_BE_REACHED)
        found += [(theme, width, "wider than the window")] * (overflow(page) > 0)
        found += [(theme, width, "maths of another colour than its text")] * page.evaluate(MATHS_OF_ANOTHER_COLOUR)
        found += [(theme, width, *violation) for violation in violations(page, *looked_for)]
    return found


def test_every_page_can_be_read_in_both_themes_and_widths(visits):
    assert {"index.html", "search.html", "replications/lion.html"} <= visits.keys()
    assert {name: visit.problems for name, visit in visits.items() if visit.problems} == {}


def test_no_page_asks_another_host(visits, address):
    assert all(visit.requested for visit in visits.values())
    foreign = [
        url for visit in visits.values() for url in visit.requested if not url.startswith((f"{address}/", "data:"))
    ]
    assert foreign == []


def test_every_equation_is_typeset_and_none_is_in_error(visits):
    assert {name: visit for name, visit in visits.items() if visit.equations != visit.typeset or visit.in_error} == {}


def test_what_these_tests_look_for_would_be_found(address, open_page):
    page = open_page(f"{address}/posts.html")  # a small one
    page.evaluate(AXE)
    assert violations(page) == []
    page.evaluate(
        "document.querySelector('article').insertAdjacentHTML('beforeend', \"<img src='http://elsewhere.invalid/x.png'>"
        "<div style='width: 5000px'>wide</div><span id='faint' style='color: #777; background: #999'>faint</span>\")"
    )
    page.wait_for_load_state("networkidle")
    assert "http://elsewhere.invalid/x.png" in page.requested
    assert overflow(page) > 0
    assert contrast(page, page.locator("#faint").element_handle()) < 4.5
    assert {rule for rule, *_ in violations(page)} == {"color-contrast", "image-alt"}
    assert {rule for rule, *_ in violations(page, *LOOKS["dark", "wide"])} == {"color-contrast"}
    assert {rule for rule, *_ in violations(page, *LOOKS["light", "phone"])} == {"image-alt"}
    assert page.evaluate(MATHS_OF_ANOTHER_COLOUR) == 0
    page.evaluate(
        "document.querySelector('article').insertAdjacentHTML('beforeend', "
        "'<p><mjx-container style=\"color: #777\">x</mjx-container></p>')"
    )
    assert page.evaluate(MATHS_OF_ANOTHER_COLOUR) == 1


def sent(path):
    """Bytes that a web host sends for a file: text goes compressed."""
    content = path.read_bytes()
    return len(content if path.suffix in (".woff2", ".png") else gzip.compress(content, mtime=0))


def test_no_page_is_heavy(visits, address, html_folder):
    weights = {}
    for name in [name for name in visits if name.startswith(("index", "replications/"))]:
        files = {url.removeprefix(address).partition("?")[0].partition("#")[0] for url in visits[name].requested}
        files = {file.lstrip("/") for file in files if file.startswith("/") and "mathjax" not in file.lower()}
        assert any(file.endswith(".woff2") for file in files)
        weights[name] = sum(sent(html_folder / file) for file in files)
    assert min(weights.values()) > 50_000
    assert {name: weight for name, weight in weights.items() if weight > WEIGHT_LIMIT} == {}


def test_the_icons_of_the_theme_are_drawn_without_its_script(address, open_page):
    page = open_page(f"{address}/index.html")
    icons = page.locator(".article-header-buttons [class*=fa-]:visible").all()
    assert len(icons) > 2
    for icon in icons:
        assert "Font Awesome" in icon.evaluate("e => getComputedStyle(e, '::before').fontFamily")
    assert page.evaluate("document.fonts.check('900 16px \"Font Awesome 6 Free\"')")
    assert not [url for url in page.requested if "fontawesome" in url and url.partition("?")[0].endswith(".js")]


def test_equations_are_typeset_from_the_disk_with_the_network_off(html_folder, open_page):
    page = open_page((html_folder / "how_to_read.html").as_uri(), offline=True)
    assert page.locator("mjx-container").count() == page.locator(".math").count() > 0
    assert page.locator("mjx-merror").count() == 0
    assert [url for url in page.requested if not url.startswith(("file:", "data:"))] == []


# --- figures and badges in both themes -----------------------------------------------------------------------


def ink(page, figure):
    """Greatest contrast between a figure's most frequent colour, its ground, and what is drawn on it; the ground."""
    picture = Image.open(io.BytesIO(figure.screenshot())).convert("RGB")
    counted = picture.getcolors(picture.width * picture.height)
    _, ground = max(counted)
    return max(contrast_of(colour, ground) for count, colour in counted if count > 5), ground


def test_figures_have_the_page_for_a_ground_and_ink_that_reads_in_both_themes(address, open_page):
    page = open_page(f"{address}/replications/lion.html")
    figures = page.locator("img.result-figure").all()
    assert len(figures) > 5
    for theme in THEMES:
        turn_to(page, theme)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        for figure in figures:
            figure.scroll_into_view_if_needed()
            assert figure.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
            strongest, ground = ink(page, figure)
            assert [int(part) for part in re.findall(r"\d+", paper)[:3]] == list(ground)
            assert strongest > 12
    page.add_style_tag(content="img.result-figure { filter: none !important; }")
    assert ink(page, figures[0])[0] < 7  # the control: black ink left as it is on a dark page


@pytest.mark.parametrize("theme", THEMES)
def test_every_badge_can_be_read_in_both_themes(address, open_page, theme):
    page = open_page(f"{address}/index.html", theme)
    assert page.locator("html").get_attribute("data-theme") == theme
    for name in VERDICT_CLASSES.values():
        badge = f"<span id='badge-{name}' class='verdict verdict-{name}'>{name}</span>"
        page.evaluate("html => document.querySelector('article').insertAdjacentHTML('beforeend', html)", badge)
        assert contrast(page, page.locator(f"#badge-{name}").element_handle()) >= 4.5, name


def test_a_page_read_in_the_dark_is_printed_in_the_light_theme_and_whole(address, open_page):
    page = open_page(f"{address}/index.html", "dark")
    chosen = len(shown(page, "board", "kind"))
    page.emulate_media(media="print", color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'light'")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("form.filters").first.is_visible()
    assert page.locator("table.board tbody tr:visible").count() == rows(page, "board") > chosen
    box = page.locator("table.board").locator("xpath=..")
    assert box.evaluate("e => getComputedStyle(e).overflowX") == "visible"
    page.emulate_media(media="screen", color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    assert page.locator("table.board tbody tr:visible").count() == chosen


def test_a_wide_table_is_cards_on_a_phone_each_cell_under_the_name_of_its_column(address, open_page):
    page = open_page(f"{address}/replications/lion.html", width="phone")
    table = page.locator("table.claims").first
    for each in (table, page.locator("table.headline")):
        assert each.evaluate("table => table.classList.contains('cards') && table.scrollWidth <= innerWidth")
    named = "cell => getComputedStyle(cell, '::before').content"
    assert table.locator("tbody td").nth(2).evaluate(named) == '"Measured here"'
    page.set_viewport_size({"width": WIDTHS["wide"], "height": 900})
    page.wait_for_function("!document.querySelector('table.cards')")
    assert table.locator("tbody td").nth(2).evaluate(named) == "none"


READABLE = 600  # CSS pixels: a figure's letters keep nearly the size in which they were drawn


def test_figures_scroll_within_a_phone_at_a_readable_size_and_lead_to_their_drawing_and_numbers(
    address, open_page, html_folder
):
    page = open_page(f"{address}/replications/lion.html", width="phone")
    figures = page.locator("figure:has(img.result-figure)").all()
    assert len(figures) > 5
    for figure in figures:
        frame = figure.locator("a.image-reference")
        box = frame.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= WIDTHS["phone"]
        assert frame.evaluate("frame => getComputedStyle(frame).overflowX") == "auto"
        assert figure.locator("img").bounding_box()["width"] >= READABLE
        links = figure.locator("a.image-reference, .figure-files a").evaluate_all(
            "links => links.map(a => a.pathname)"
        )
        assert [Path(link).suffix for link in links] == [".svg", ".html", ".csv", ".svg"]
        assert all((html_folder / link.lstrip("/")).is_file() for link in links)
    assert overflow(page) == 0


STOPS = """
() => [...document.querySelectorAll('mjx-container')].filter(formula => formula.tabIndex === 0).map(
  formula => formula.closest('div.math') !== null && formula.scrollWidth > formula.clientWidth)
"""
IN_LINES = """
() => [...document.querySelectorAll('span.math:has(> mjx-container)')].map(formula => [
  formula.firstElementChild.clientWidth, formula.clientWidth, getComputedStyle(formula).overflowX === 'auto'])
"""


def test_an_address_leads_to_its_row_where_what_is_above_has_become_longer(address, open_page):
    page = open_page(f"{address}/replications/lion.html#claim-lion-x3", width="phone")
    place = "document.getElementById('claim-lion-x3').getBoundingClientRect().top"
    page.wait_for_function(f"{place} >= 0 && {place} < 300")


def test_no_formula_is_a_stop_on_the_way_through_a_page_but_one_that_scrolls(address, open_page):
    page = open_page(f"{address}/replications/lion/derivation.html")
    assert page.locator("mjx-container").count() > 100
    assert len(page.evaluate(STOPS)) < 10
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to main content"
    page.set_viewport_size({"width": WIDTHS["phone"], "height": 900})
    page.wait_for_function(f"({STOPS})().length > 20")
    assert all(page.evaluate(STOPS))
    # In a line of text: (its width, that of its frame, whether it scrolls).
    wide = [scrolls for width, frame, scrolls in page.evaluate(IN_LINES) if width > frame > 0]
    assert wide
    assert all(wide)


def test_code_is_wrapped_on_paper(address, open_page):
    page = open_page(f"{address}/replications/lion.html")
    assert page.locator("pre").count() > 0
    page.emulate_media(media="print")
    wide = "blocks => blocks.filter(block => getComputedStyle(block).whiteSpace !== 'pre-wrap').length"
    assert page.locator("pre").evaluate_all(wide) == 0


# --- the board and the map -----------------------------------------------------------------------------------


def shown(page, table, facet):
    cells = page.locator(f"table.{table} tbody tr:not([hidden]) [data-facet={facet}]")
    return cells.evaluate_all("cells => cells.map(cell => cell.dataset.value)")


def rows(page, table):
    return page.locator(f"table.{table} tbody tr").count()


def test_the_board_filters_sorts_and_has_an_address_for_what_it_shows(address, open_page):
    page = open_page(f"{address}/index.html")
    everything = rows(page, "board")
    assert set(shown(page, "board", "kind")) == {"primary"}
    page.select_option("#board-kind", "")
    assert len(shown(page, "board", "kind")) == everything
    page.select_option("#board-verdict", "contradicted")
    contradicted = shown(page, "board", "verdict")
    assert set(contradicted) == {"contradicted"}
    assert 0 < len(contradicted) < everything
    assert page.locator("form.filters output").first.inner_text() == f"{len(contradicted)} of {everything} rows"

    again = open_page(page.url)
    assert shown(again, "board", "verdict") == contradicted
    assert again.locator("#board-kind").input_value() == ""
    again.click("form.filters >> nth=0 >> text=show all")
    assert len(shown(again, "board", "verdict")) == everything

    heading = again.locator("table.board th", has_text="Verdict")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    verdicts = shown(again, "board", "verdict")
    assert verdicts[: len(contradicted)] == contradicted
    assert "contradicted" not in verdicts[len(contradicted) :]
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert shown(again, "board", "verdict") == verdicts[::-1]


def test_an_address_with_a_value_that_is_not_there_shows_everything(address, open_page):
    page = open_page(f"{address}/index.html?board-verdict=proven")
    assert len(shown(page, "board", "verdict")) == rows(page, "board")


def test_the_board_is_sorted_and_filtered_from_the_keyboard(address, open_page):
    page = open_page(f"{address}/index.html")
    claims = page.locator("table.board th", has_text="What is claimed").first
    page.locator("table.board th button").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert claims.get_attribute("aria-sort") == "ascending"
    page = open_page(f"{address}/posts.html")
    page.focus("#posts-state")
    page.keyboard.press("ArrowDown")
    assert len(set(shown(page, "posts", "state"))) == 1
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_without_a_script_both_tables_are_whole(address, open_page):
    pages = {"posts": open_page(f"{address}/posts.html", scripts=False)}
    pages["board"] = open_page(f"{address}/index.html", scripts=False)
    for table, page in pages.items():
        assert page.locator("form.filters").count() == 0
        assert rows(page, table) == page.locator(f"table.{table} tbody tr:visible").count()
    assert rows(pages["posts"], "posts") == 34
    badges = pages["board"].locator("table.board .verdict").all_inner_texts()
    assert len(badges) == rows(pages["board"], "board")
    assert {"holds", "contradicted"} <= set(badges)


# --- the front page -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_the_front_page_says_of_each_replication_what_was_found_how_large_and_how_sure(address, open_page, width):
    page = open_page(f"{address}/index.html", width=width)
    cards = page.locator("section.answer-card").all()
    assert len(cards) == len(list(BOOK.glob("replications/*.md")))
    for card in cards:
        for part in (".question", ".answer", ".verdict", ".scale", "img.result-figure"):
            assert card.locator(part).first.is_visible()
        answer, scale = (card.locator(part).bounding_box() for part in (".answer", ".scale"))
        assert answer["y"] < scale["y"]
        assert answer["x"] + answer["width"] <= WIDTHS[width]
        picture = card.locator("img.result-figure")
        picture.scroll_into_view_if_needed()
        assert card.locator("a.image-reference").bounding_box()["width"] <= WIDTHS[width]
        assert picture.bounding_box()["width"] >= READABLE
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    first, board = page.locator("section.answer-card").first, page.locator("table.board")
    assert first.bounding_box()["y"] < board.bounding_box()["y"]
    assert board.locator("tbody tr:visible td").first.locator(".verdict").count() == 1


# --- search --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "page_found"),
    [
        ("bandwidth", "replications/lion.html"),
        ("bandwidths", "replications/lion.html"),
        ("bootstrap", "how_to_read.html"),
        ("优化器", "posts.html"),
        ("训练狮", "posts.html"),
        ("优化器Lion:效率与效果兼得", "posts.html"),
        ("扩散", "posts.html"),
        ("苏剑林", "references.html"),
    ],
)
def test_search_finds_english_and_chinese(address, open_page, query, page_found):
    page = open_page(f"{address}/search.html?q={query}")
    page.wait_for_selector("#search-results ul.search li a", timeout=30_000)
    links = page.locator("#search-results ul.search li a").evaluate_all("links => links.map(link => link.pathname)")
    assert f"/{page_found}" in links


def test_search_leads_to_the_section_that_is_about_it(address, open_page):
    page = open_page(f"{address}/search.html?q=half swap")
    first = page.locator("#search-results ul.search li a").first
    place = first.evaluate("link => link.pathname + link.hash")
    assert place.startswith("/replications/shared_embeddings/derivation.html#")
    assert "half-swap" in place
    assert "half swap" in first.inner_text()


@pytest.mark.parametrize("query", ["优化狮", "csname"])
def test_search_does_not_find_what_no_page_says(address, open_page, query):
    page = open_page(f"{address}/search.html?q={query}")
    page.wait_for_function("document.querySelector('#search-results p')?.textContent.includes('did not match')")
    assert page.locator("#search-results ul.search li").count() == 0
