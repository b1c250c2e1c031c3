"""Settings of Sphinx."""

from importlib.metadata import version as installed_version

project = "implicit_core"
author = "The implicit_core developers"
version = release = installed_version("implicit-core")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc", "myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
nitpicky = False

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc shows the types that docstrings state
numpydoc_show_class_members = False
suppress_warnings = ["config.cache"]
myst_enable_extensions = ["dollarmath"]
