"""Sphinx's configuration.

    sphinx-build -W docs docs/build

builds the site in an environment that has relu_ext and its extra `docs`.
"""

import relu_ext

project = "relu_ext"
author = "The relu_ext developers"
copyright = f"2026, {author}"
version = release = relu_ext.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "numpydoc",
    "myst_parser",
]
exclude_patterns = ["build"]
templates_path = ["templates"]
nitpicky = True  # a reference that leads nowhere is a warning, and so an error
default_role = "autolink"  # `name` is a link where it names something public
autosummary_generate = True
numpydoc_show_class_members = False
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = f"relu_ext {version}"
html_theme_options = {
    "header_links_before_dropdown": 7,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
    "use_edit_page_button": False,
}
# Pages without others below them need no navigation within their section.
html_sidebars = {page: [] for page in ("index", "values", "evidence", "design", "changes")}
html_static_path = ["static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_copy_source = False


def setup(app):
    # The signature as Python knows it: numpydoc's handler, of priority 500, drops its slash.
    app.connect("autodoc-process-signature", lambda *event: event[-2:], priority=400)
