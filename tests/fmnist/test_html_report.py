import pytest
from matplotlib.figure import Figure

from fmnist import html_report

HEAD = ["", *(f"score {index}, %" for index in range(12))]
ROW = ["batchnorm_cnn-without-batch-norm", *["94.74 ± 0.35 (-0.85 to +0.46)"] * 12]


def test_special_characters_are_escaped():
    page = html_report.page(
        "<title>", html_report.paragraph("<a & b>"), html_report.table(["<c>"], [["<d>"]])
    )
    assert not any(tag in page for tag in ("<a &", "<c>", "<d>", "<title>&lt;title&gt;</title><"))
    assert all(
        text in page for text in ("&lt;title&gt;", "&lt;a &amp; b&gt;", "&lt;c&gt;", "&lt;d&gt;")
    )


def test_a_page_with_another_name_contains_its_figures(tmp_path):
    figure = Figure()
    html_report.write(
        tmp_path, "Page", [], {"plot": figure}, {"plot": "A plot"}, file_name="other.html"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"figures", "other.html"}
    page = (tmp_path / "other.html").read_text()
    assert "data:image/png;base64," in page and "A plot" in page


@pytest.mark.browser
def test_a_wide_table_scrolls_and_its_cells_are_not_wrapped(browser):
    page = browser.new_page(viewport={"width": 800, "height": 600})
    page.set_content(
        html_report.page(
            "Page", html_report.table(HEAD, [ROW] * 3), html_report.table(["", ""], [["a", "b"]])
        )
    )
    wide, narrow = (
        table.locator("td").first.bounding_box()["height"] for table in page.locator("table").all()
    )
    assert wide == narrow
    assert page.locator("table").first.evaluate("table => table.scrollWidth > table.clientWidth")
    assert page.locator("html").evaluate("html => html.scrollWidth") <= 800
