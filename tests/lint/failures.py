# SPDX-License-Identifier: MIT
"""tests/failures.md: its groups are complete, and each row names a test that is there, or says why there is none.

failures.py CTEST BUILD: the tests that are there are those that ctest knows in the build folder. In a cell `unit.backoff`
names a test of ctest, `unit.backoff test_reset` one story in its source, too.
"""

import json
import os
import re
import subprocess
import sys

import tree

GROUPS = {"A": 18, "B": 16, "C": 10}
COLUMNS = 5
NO_TEST = "No test: "
MARK = re.compile(r"`((?:unit|integration|devserver|conformance|fuzz|lint|abi|install|vectors|json)[.][\w.]+)(?: (\w+))?`")


def names_of(ctest, build):
    out = subprocess.run([ctest, "--test-dir", build, "--show-only=json-v1"], capture_output=True, check=True).stdout
    return {test["name"] for test in json.loads(out)["tests"]}


def rows(text):
    """(title of the chapter, cells) of each row of a table but its head."""
    title, is_head = "", True
    for line in text.splitlines():
        if line.startswith("## "):
            title = line[3:]
        if not line.startswith("|"):
            is_head = True
        elif is_head or set(line) <= set("|- "):
            is_head = False
        else:
            yield title, [cell.strip() for cell in line.strip().strip("|").split("|")]


def source_of(test):
    """Where the stories of a test are; None: it has none that could be named."""
    kind, _, name = test.partition(".")
    path = {"unit": f"tests/unit/test_{name}.c", "integration": f"tests/integration/it_{name.removesuffix('.strict')}.py"}.get(kind)
    return path if path and os.path.isfile(os.path.join(tree.ROOT, path)) else None


def has_story(test, story):
    path = source_of(test)
    return path is not None and re.search(rf"^START_TEST\({story}\)|^    def {story}\(", tree.read(path), re.M) is not None


def wrong_with_tests(cell, tests):
    """What is wrong with a row's last cell."""
    marks = MARK.findall(cell)
    if not marks and not cell.startswith(NO_TEST):
        yield f'names no test, and does not begin with "{NO_TEST.strip()}"'
    if cell.startswith(NO_TEST) and len(cell) < len(NO_TEST) + 20:
        yield "does not say why there is no test"
    for test, story in marks:
        if test not in tests:
            yield f"there is no test {test}"
        elif story and not has_story(test, story):
            yield f"{test} has no story {story}"


def offences(text, tests):
    found = {group: [] for group in GROUPS}
    for title, cells in rows(text):
        group = title[:1] if title[1:2] == "." else ""
        if group:
            found.setdefault(group, []).append(cells[0])
        if group and len(cells) != COLUMNS:
            yield f"{cells[0]}: {len(cells)} cells, {COLUMNS} are needed"
        elif not all(cells):
            yield f"{cells[0]}: an empty cell"
        for wrong in wrong_with_tests(cells[-1], tests):
            yield f"{cells[0]}: {wrong}"
    for group, ids in found.items():
        want = [f"{group}{n}" for n in range(1, GROUPS.get(group, 0) + 1)]
        if ids != want:
            yield f"group {group} is not {want[0] if want else 'one'} to {want[-1] if want else 'of these'}: {' '.join(ids)}"


def main():
    tests = names_of(*sys.argv[1:3])
    tree.report(list(offences(tree.read("tests/failures.md"), tests)), "the table of failures")


if __name__ == "__main__":
    main()
