# SPDX-License-Identifier: MIT
"""No C file over 500 lines of code, no function over 70 lines: what is longer hides a second subject."""

import re

import tree

FILE_LINES = 500
FUNCTION_LINES = 70
# Files that may have up to 600, each with its reason.
EXCEPTIONS = {}
EXCEPTION_LINES = 600


def code_lines(text):
    """Lines that are neither empty nor comment alone."""
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)
    return sum(1 for line in text.splitlines() if line.strip())


def functions(text):
    """(name, line, number of lines) of each block that begins and ends in the first column."""
    lines, start = text.splitlines(), None
    for i, line in enumerate(lines):
        if line == "{":
            start = i
        elif line.startswith("}") and start is not None:
            head = next((h for h in reversed(lines[:start]) if re.match(r"\w.*\(", h)), "?")
            yield re.search(r"(?:START_TEST\()?(\w+)[()]|$", head).group(1), start + 1, i - start + 1
            start = None


def check(path, text):
    limit = EXCEPTION_LINES if path in EXCEPTIONS else FILE_LINES
    if code_lines(text) > limit:
        yield f"{path}: {code_lines(text)} lines of code, at most {limit}"
    for name, line, n in functions(text):
        if n > FUNCTION_LINES:
            yield f"{path}:{line}: {name}() has {n} lines, at most {FUNCTION_LINES}"


def self_test():
    long_function = "int f(int a)\n{\n" + "\ta++;\n" * 69 + "}\n"
    assert [n for _, _, n in functions(long_function)] == [71] and list(check("x.c", long_function))
    assert not list(check("x.c", long_function.replace("\ta++;\n", "", 1)))
    assert list(check("x.c", "int a;\n" * 501)) and not list(check("x.c", "int a;\n\n/* b\n\n */\n" * 500))


if __name__ == "__main__":
    self_test()
    sources = tree.paths(".c", ".h")
    tree.report([o for p in sources for o in check(p, tree.read(p))], f"the sizes of {len(sources)} C files")
