"""README and docs: code blocks, paths, flags, links, and both languages.

The Sphinx build itself is ``make docs``.
"""

import ast
import re
import subprocess
from functools import cache
from itertools import zip_longest
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TWINS = {ROOT / 'README.md': ROOT / 'README_zh-CN.md'} | {
    page: ROOT / 'docs/zh_cn' / page.name
    for page in sorted((ROOT / 'docs/en').glob('*.md'))
}
PAGES = [
    *TWINS,
    *TWINS.values(),
    ROOT / 'CONTRIBUTING.md',
    *sorted((ROOT / 'configs').glob('*/README.md')),
]
# what the shell scripts hand their arguments to
BEHIND = {
    'dist_train.sh': 'tools/train.py',
    'slurm_train.sh': 'tools/train.py',
    'dist_test.sh': 'tools/test.py',
}
# flags that stand alone in the text and are another program's
OTHERS = {'--no-cache-dir', '--no-build-isolation', '--style', '--index-url'}
FENCE = re.compile(r'^```(.*)\n([\s\S]*?)^```$', re.M)
SPAN = re.compile(r'(?<!`)`([^`\n]+)`(?!`)')
TOOL = re.compile(r'(?:^|[\s/(])((?:[\w-]+/)*[\w-]+\.(?:py|sh))(?=\s|$)')
COMMAND = re.compile(r'\bmmfgl (run|predict|report|export|demo)\b')
FLAG = re.compile(r'(?<![\w-])--[a-z][a-z_-]*')
PLACE = re.compile(
    r'(?<![\w./:$}-])(?:configs|tools|mmfgl|docs|benchmarks|resources|tests'
    r'|requirements|docker|\.github)/[\w./@-]*(?![\w*{$<-])'
)
MADE = ('docs/_build',)  # by a command of ours


def name(page):
    return str(page.relative_to(ROOT))


def blocks(page, *languages):
    text = page.read_text(encoding='utf-8')
    return [code for kind, code in FENCE.findall(text) if kind in languages]


def prose(page):
    return FENCE.sub('', page.read_text(encoding='utf-8'))


def commands(page):
    """Simple commands of the bash blocks, and of code in the text."""
    for code in blocks(page, 'bash'):
        code = re.sub(r'(^|\s)#.*', '', code.replace('\\\n', ' '))
        yield from re.split(r'\n|&&|\|\|?|;', code)
    yield from SPAN.findall(prose(page))


@cache
def flags_of(path, function=None):
    """Flags that a file declares, also by imported `add_...` functions."""
    tree = ast.parse((ROOT / path).read_text(encoding='utf-8'))
    imported = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if alias.name.startswith('add_') and 'argument' in alias.name
    }
    if function is not None:
        (tree,) = (
            node
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name == function
        )
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in imported:
            there = imported[called].replace('.', '/') + '.py'
            folder = '' if there.startswith('mmfgl/') else Path(path).parent
            found |= flags_of(Path(folder, there), called)
        elif called.split('.')[-1] in ('add', 'add_argument'):
            values = [getattr(arg, 'value', None) for arg in node.args]
            found |= {
                value
                for value in values
                if isinstance(value, str) and value.startswith('--')
            }
    return frozenset(found)


@cache
def tools():
    """File name of each tool -> its flags."""
    found = {}
    for path in sorted(ROOT.glob('tools/**/*.py')):
        found[path.name] = flags_of(name(path))
    for path in sorted(ROOT.glob('tools/*.sh')):
        cases = re.findall(r'(--[a-z-]+)\)', path.read_text(encoding='utf-8'))
        found[path.name] = frozenset(cases)
        if path.name in BEHIND:
            found[path.name] |= flags_of(BEHIND[path.name])
    for path in sorted(ROOT.glob('mmfgl/cli/[a-z]*.py')):
        common = flags_of('mmfgl/cli/__init__.py')
        found[f'mmfgl {path.stem}'] = flags_of(name(path)) | common
    return found


def page_test(function):
    return pytest.mark.parametrize('page', PAGES, ids=name)(function)


@page_test
def test_python_blocks_compile(page):
    for code in blocks(page, 'python', 'py'):
        compile(code, name(page), 'exec')


@page_test
def test_bash_blocks_parse(page):
    for code in blocks(page, 'bash', 'sh', 'shell', 'console'):
        check = subprocess.run(
            ['bash', '-n'], input=code, text=True, capture_output=True
        )
        assert check.returncode == 0 and not check.stderr, (code, check.stderr)


@page_test
def test_paths_exist(page):
    text = '\n'.join(
        blocks(page, 'bash', 'python') + SPAN.findall(prose(page))
    )
    for place in PLACE.findall(text.replace('\\\n', ' ')):
        there = place.rstrip('.')
        assert there.startswith(MADE) or (ROOT / there).exists(), place
    for config in re.findall(r'mmfgl::([\w./@-]+\.py)', text):
        assert (ROOT / 'configs' / config).is_file(), config


@page_test
def test_flags_exist(page):
    for command in commands(page):
        tool = COMMAND.search(command) or TOOL.search(command)
        if tool is None or '$T/' in command:
            continue
        key = tool[0] if tool.re is COMMAND else tool[1].rpartition('/')[2]
        if tool.re is COMMAND or key in tools():
            shown = set(FLAG.findall(command[tool.end() :]))
            assert shown <= tools().get(key, set()), (key, command)


@page_test
def test_flags_in_the_text_exist(page):
    known = OTHERS.union(*tools().values())
    for span in SPAN.findall(prose(page)):
        if span.startswith('--'):
            assert FLAG.match(span)[0] in known, span


@page_test
def test_links_resolve(page):
    text = prose(page)
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if not re.match(r'[a-z]+:', target) and not target.startswith('#'):
            there = page.parent / target.partition('#')[0]
            assert there.exists(), target


def test_both_languages_have_every_page():
    english, chinese = (
        {page.name for page in (ROOT / 'docs' / language).glob('*.md')}
        for language in ('en', 'zh_cn')
    )
    assert english == chinese and 'index.md' in english


def without_comments(code):
    lines = re.sub(r'(^|\s+)#.*', '', code, flags=re.M).splitlines()
    return [line for line in lines if line.strip()]


@pytest.mark.parametrize('page', TWINS, ids=name)
def test_both_languages_have_the_same_code(page):
    ours, theirs = (
        FENCE.findall(p.read_text(encoding='utf-8'))
        for p in (page, TWINS[page])
    )
    for one, other in zip_longest(ours, theirs, fillvalue=('', '')):
        assert one[0] == other[0].split('\n')[0], (one, other)
        if one[0] != '{toctree}':  # its captions are translated
            code = without_comments(one[1])
            assert code == without_comments(other[1])


@pytest.mark.parametrize('page', TWINS, ids=name)
def test_both_languages_have_the_same_structure(page):
    shapes = []
    for text in (prose(page), prose(TWINS[page])):
        headings = re.findall(r'^(#+) ', text, re.M)
        rows = re.findall(r'^\|.*\|$', text, re.M)
        numbers = [sorted(re.findall(r'\d+(?:\.\d+)?', row)) for row in rows]
        formulas = re.findall(r'^\$\$\n(.*?)^\$\$$', text, re.M | re.S)
        shapes.append((headings, numbers, formulas))
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize('language', ['en', 'zh_cn'])
def test_every_page_is_in_a_table_of_contents(language):
    pages = sorted((ROOT / 'docs' / language).glob('*.md'))
    trees = [code for page in pages for code in blocks(page, '{toctree}')]
    listed = re.findall(r'^\w+$', '\n'.join(trees), re.M)
    assert sorted(listed) == sorted({p.stem for p in pages} - {'index'})
