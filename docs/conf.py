"""Sphinx settings of both languages: ``make docs``.

The folder given to ``sphinx-build`` is ``docs/en`` or ``docs/zh_cn``; the
language comes from the command line (``-D language=zh_CN``).
"""

from mmfgl.version import __version__

project = 'mmfgl'
author = 'mmfgl contributors'
copyright = author
release = version = __version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.mathjax',
    'sphinx-mathjax-offline',  # formulas without network; after mathjax
]
myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3

autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_default_options = {'members': True}

html_theme = 'furo'
html_title = f'mmfgl {release}'
