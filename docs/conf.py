"""How the documentation site is built: `ci/test` builds it with warnings as errors."""

project = "mesh-hsm"
author = "the mesh-hsm authors"
copyright = "2026, the mesh-hsm authors"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
nitpicky = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"

html_theme = "furo"
html_title = "mesh-hsm"
