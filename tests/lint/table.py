# SPDX-License-Identifier: MIT
"""PROTOCOL.md against rtbp_table.h: each name and number of the table is documented, and no other is. And the words for
reasons against the sources that say them."""

import re

import tree

# Words in backticks in sections 4 to 6 that are no names of the table: values of fields.
VALUES = set("""
    true false ready joined joining rejoining rejected closed
    acked sent denied unknown too_big rate_limited busy expired not_joined throttled queued http none replayed truncated
    replaced ok pending overflow
    idle connecting online stalled backoff auth_failed config_error draining
    waiting good late bad file command refresh
    auto ws bin sync.upstream * links merge refuse rtbridge: presence.key
    error INSERT UPDATE DELETE
    accepted unproven cleared pending probation join_budget forbidden bad_token token_replaced token_cleared token_expired
    read write presence exp iat nbf jti alg retry_after_ms
""".split()) | {"", "[presence] trackers"}


def rows(text, which):
    block = re.search(rf"#define {which}\(X\)(.*?[^\\])\n\n", text, re.S).group(1)
    return re.findall(r"X\(\w+, (?:(\d+), )?\"(\w+)\"", block.replace("\\\n", " "))


def sections(text):
    """Number -> text of the numbered chapters."""
    parts = re.split(r"^## (\d+)\. .*$", text, flags=re.M)
    return dict(zip(map(int, parts[1::2]), parts[2::2]))


def compare(what, table, document):
    for name in sorted(set(table) - set(document)):
        yield f"PROTOCOL.md lacks the {what} {name}"
    for name in sorted(set(document) - set(table)):
        yield f"rtbp_table.h lacks the {what} {name}"


def words(text):
    """What stands in backticks, code blocks left out; "x" and x alike."""
    text = re.sub(r"^    .*$", "", text, flags=re.M)
    return {w.strip('"') for w in re.findall(r"`([^`]+)`", text)}


def constant(text, name):
    return eval(re.search(rf"\b{name}\s*=\s*([\d *]+),", text).group(1))  # digits and * only


def reason_words(source):
    """What daemon/realtime/reasons.c calls things: the second strings of its rows, and the faults' names."""
    channel = re.findall(r"\{ REASON_\w+,\s*\"(\w+)\"", source)
    connection = re.findall(r"\[SESSION_FAULT_\w+\] = \{\s*\"(\w+)\"", source)
    return set(channel) | set(connection) - {"none"}


# Where the daemon's own token comes from, and who looks after it.
TOKEN_SOURCES = [f"daemon/{name}.c" for name in (
    "realtime/keeper", "realtime/gotrue", "realtime/refresh", "app/token", "app/token_file", "app/token_command",
    "app/token_refresh")]
TOKEN_CODE = re.compile(
    r'\b(?:say\(&k->\w+|on_failure\(k|say\((?:ret|r)|fail\(r|token_on_refused\(t, serial),\s*"(\w+)"'  # as an argument
    r'|\bcode = (?:[^;"]*\?\s*)?"(\w+)"(?:\s*:\s*"(\w+)")?'  # as a value, or two
    r'|\b(\w+)\[\] = "\4"')  # as a constant that is called as it reads


def token_words(sources, reasons):
    """The codes of the daemon's own token: of its sources, and of the server's refusals."""
    own = {word for found in TOKEN_CODE.findall(sources) for word in found if word}
    return own | set(re.findall(r'\{ REASON_AUTH,\s*"(\w+)"', reasons))


def take_token_part(text):
    """Section 8 without the part about the daemon's own token, and the codes of that."""
    part = re.search(r"^`code` of the daemon's own `token`.*?(?=^`)", text, re.M | re.S)
    rows = re.findall(r"^\| (`.*?`) \|", part.group(0), re.M)
    return text.replace(part.group(0), ""), words("\n".join(rows)) - {"code"}


def check(table, document, reasons, sources):
    chapter = sections(document)
    chapter[8], token_said = take_token_part(chapter[8])
    for name in sorted(token_words(sources, reasons) ^ token_said):
        yield f"the code {name} of the daemon's token is not both in PROTOCOL.md and in what says it"
    # The hub's own words: the link is down, the channel is joined anew for presence or for database changes, there is
    # no room for a binding, a change could not be read.
    said = words(chapter[8]) - {"text", "reason", "code", "cause", "ids", "connection", "presence", "postgres_changes",
                                "too_many", "undecodable", "probation", "join_budget", "token_replaced",
                                "token_cleared", "moved", "retry_in_ms", "token_missing", "joining", "replication_ready",
                                "rejoining"}
    for name in sorted(reason_words(reasons) - said):
        yield f"PROTOCOL.md lacks the reason {name}"
    for name in sorted(said - reason_words(reasons)):
        yield f"reasons.c lacks the reason {name}"
    methods = [n for _, n in rows(table, "RTBP_METHODS")]
    notices = [n for _, n in rows(table, "RTBP_NOTICES")]
    errors = rows(table, "RTBP_ERRORS")
    fields = [n for _, n in rows(table, "RTBP_FIELDS")]
    headings = {n: re.findall(r"^### (\w+)$", chapter[n], re.M) for n in (4, 5)}
    yield from compare("method", methods, headings[4])
    yield from compare("notification", notices, headings[5])
    yield from compare("error", errors, re.findall(r"^\| (\d+) \| `(\w+)` \|", chapter[2], re.M))
    said = set().union(*(words(chapter[n]) for n in (4, 5, 6)))
    known = {n for _, n in errors} | set(methods) | set(notices) | VALUES
    for name in sorted(set(fields) - said):
        yield f"PROTOCOL.md lacks the field {name}"
    for name in sorted(said - known - set(fields)):
        yield f"rtbp_table.h lacks the field {name}, and it is no known value"
    limits = {
        f"1 to {constant(table, 'RTBP_TOPIC_MAX')} bytes": 3,
        f"1 to {constant(table, 'RTBP_EVENT_MAX')} bytes": 3,
        f"nested at most {constant(table, 'RTBP_DEPTH_MAX')} deep": 1,
        f"({constant(table, 'RTBP_FRAME_MAX_UP') >> 20} MiB unless configured)": 1,
        f"none over {constant(table, 'RTBP_FRAME_MAX_DOWN') >> 20} MiB": 1,
        f"| `protocol` | int | {constant(table, 'RTBP_PROTOCOL')} |": 4,
    }
    for text, n in limits.items():
        if text not in re.sub(r"\s+", " ", chapter[n]):
            yield f'section {n} of PROTOCOL.md does not say "{text}", as rtbp_table.h does'


def self_test(table, document, reasons, sources):
    planted = [
        (table.replace('X(SYNC, "sync")', 'X(SYNC, "sink")'), document),
        (table.replace('X(CHANNEL, "channel")', 'X(CHANNEL, "canal")'), document),
        (table.replace('X(CHAN, "chan")', 'X(CHAN, "khan")'), document),
        (table.replace('X(BUSY, 100,', 'X(BUSY, 103,'), document),
        (table.replace("RTBP_TOPIC_MAX = 240", "RTBP_TOPIC_MAX = 241"), document),
        (table, document.replace("### status", "### statuses")),
        (table, document.replace("| `keep` |", "| `keeps` |")),
        (table, document.replace("| 204 |", "| 209 |")),
        (table, document.replace("`rtt_ms`", "`rtt_us`")),
        (table, document.replace("`tls`", "`ssl`")),
        (table, document.replace("`login_needed`", "`login_wanted`")),
        (table, document.replace("`bad_file` |", "`bad_path` |")),
    ]
    for t, d in planted:
        assert (t, d) != (table, document)
        assert list(check(t, d, reasons, sources)), "a planted difference was not found"


if __name__ == "__main__":
    both = (tree.read("proto/rtbp_table.h"), tree.read("proto/PROTOCOL.md"), tree.read("daemon/realtime/reasons.c"),
            "\n".join(map(tree.read, TOKEN_SOURCES)))
    found = list(check(*both))
    if not found:
        self_test(*both)
    tree.report(found, "PROTOCOL.md and rtbp_table.h")
