"""How Sphinx builds these pages: `make docs`.  Nothing is fetched, now or by the reader."""

import re
from importlib.metadata import version as version_of

from sphinx.application import Sphinx

project = "convcalc"
author = "convcalc contributors"
copyright = "convcalc contributors"
release = version = version_of("convcalc")

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
# Which anchors of headings links may name.
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = "convcalc"
html_show_sphinx = False
html_copy_source = False
pygments_style = "default"
pygments_dark_style = "github-dark"

#: Markdown files of the repository that are no page here.
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./((?:benchmarks|convcalc)/[^)]*(?:\.md|/))\)")


#: Marks of blocks that the tests do not compare to the letter (scripts/docs.py), and their words.
MARKS = (
    (
        re.compile(r"^<!-- predicted -->$", re.M),
        "*Predicted (tested within 10 %):*\n",
    ),
    (re.compile(r"^<!-- not run: (.*) -->$", re.M), r"*Not run by the tests: \1.*" + "\n"),
)


def adapt(app: Sphinx, docname: str, source: list[str]) -> None:
    """What works in the repository only: links to Markdown beside docs/, marks in comments."""
    source[0] = OUTSIDE.sub(r"\1 (`\2`)", source[0])
    for mark, words in MARKS:
        source[0] = mark.sub(words, source[0])


def setup(app: Sphinx) -> None:
    """Register what is above."""
    app.connect("source-read", adapt)
