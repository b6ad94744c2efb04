# SPDX-License-Identifier: MIT
"""Reads every #include of proto, libclient and daemon against the layers and the doors.

A folder includes only what stands below it; each third party has few files that may include it, and whoever
includes one of those includes the third party as well, so headers are followed.
"""

import fnmatch
import os
import re

import tree

DAEMON = {
    "base": set(),
    "wire": {"base"},
    "ipc": {"base"},
    "realtime": {"base"},
    "hub": {"base", "wire", "ipc", "realtime"},
    "app": {"base", "wire", "ipc", "realtime", "hub"},
}
# Third-party header (glob): files (globs) that may include it, themselves or by a header of ours.
DOORS = {
    "libwebsockets.h": ["daemon/wire/*"],
    "openssl/*": ["daemon/wire/*", "daemon/app/token_store.c"],
    "event2/*": ["daemon/base/loop.c", "libclient/include/rtbridge/libevent.h"],
    "msgpack*": ["proto/rtbp_pack.c"],
    "systemd/*": ["daemon/app/notify.c", "daemon/ipc/listener.c"],
    "ini_*": ["daemon/app/conf_file.c"],
    "bsd/sys/tree.h": ["daemon/*", "libclient/*"],
}
# libc, the kernel, the compiler.
SYSTEM = set("""
    assert ctype dirent dlfcn emmintrin endian errno fcntl fenv float fnmatch ftw getopt glob grp ifaddrs inttypes iso646
    langinfo limits locale math malloc netdb paths poll pthread pwd regex sched semaphore setjmp signal spawn stdalign
    stdarg stdatomic stdbool stddef stdint stdio stdio_ext stdlib stdnoreturn string strings sysexits syslog termios
    threads time uchar unistd utime wchar wctype x86intrin
""".split())
SYSTEM_FOLDERS = ("sys/", "netinet/", "arpa/", "linux/", "net/")
PUBLIC = "libclient/include/"
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def room(path):
    parts = path.split("/")
    if parts[0] == "daemon":
        return parts[1]
    if parts[0] == "libclient" and parts[1] in ("cli", "examples", "include"):
        return parts[1]
    return parts[0]


def allowed(path, target):
    """May a file of ours include another file of ours?"""
    mine, its = room(path), room(target)
    if mine == its:
        return True
    if its == "include":
        return mine in ("libclient", "cli", "examples")
    if its == "proto":
        return mine == "libclient" or mine in DAEMON
    return its in DAEMON.get(mine, ())


def is_system(name):
    return name.startswith(SYSTEM_FOLDERS) or (name.endswith(".h") and name[:-2] in SYSTEM)


def resolve(path, quote, name, files):
    """The file of ours that an #include means, or None."""
    here = os.path.dirname(path)
    places = [PUBLIC + name]
    if quote == '"':
        places += [f"{here}/{name}", name, f"daemon/{name}"]
    return next((p for p in places if p in files), None)


def check(files):
    """files: path -> text. Returns the offences, each a line."""
    offences, ours, theirs = [], {}, {}
    for path, text in files.items():
        ours[path], theirs[path] = set(), set()
        for quote, name in INCLUDE.findall(text):
            target = resolve(path, quote, name, files)
            if target:
                ours[path].add(target)
                if not allowed(path, target):
                    offences.append(f"{path}: may not include {target}")
            elif quote == '"':
                offences.append(f"{path}: includes {name}, which is none of its files")
            elif not is_system(name):
                theirs[path].add(name)
    for path in files:
        seen, todo = set(), [path]
        while todo:
            at = todo.pop()
            if at not in seen:
                seen.add(at)
                todo += ours[at]
                for name in sorted(theirs[at]):
                    if not door_open(path, name):
                        offences.append(f"{path}: may not include <{name}>" + (f", as {at} does" if at != path else ""))
    return offences


def door_open(path, name):
    return any(fnmatch.fnmatch(name, header) and any(fnmatch.fnmatch(path, p) for p in may)
               for header, may in DOORS.items())


# ---- does it find what it is for? ----

HOUSE = {
    "proto/rtbp_a.h": "", "proto/rtbp_pack.c": "#include <msgpack/pack.h>",
    "daemon/base/log.h": "#include <bsd/sys/tree.h>", "daemon/base/loop.c": "#include <event2/event.h>",
    "daemon/wire/wire.h": '#include "base/log.h"', "daemon/wire/wire_in.h": "#include <libwebsockets.h>",
    "daemon/wire/wire.c": '#include "wire/wire_in.h"\n#include <openssl/ssl.h>',
    "daemon/ipc/conn.h": "#include <sys/un.h>", "daemon/realtime/phx.h": '#include "proto/rtbp_a.h"',
    "daemon/hub/hub.h": '#include "wire/wire.h"\n#include "ipc/conn.h"\n#include "impl.h"', "daemon/hub/impl.h": "",
    "daemon/app/app.c": '#include "hub/hub.h"', "daemon/app/notify.c": "#include <systemd/sd-daemon.h>",
    "libclient/client.h": '#include "proto/rtbp_a.h"\n#include <rtbridge/rtbridge.h>',
    "libclient/include/rtbridge/rtbridge.h": "#include <stdint.h>",
    "libclient/cli/cli.h": "#include <rtbridge/rtbridge.h>\n#include <stdio.h>",
}
PLANTED = [
    ("daemon/base/x.c", '#include "wire/wire.h"'),
    ("daemon/wire/x.c", '#include "ipc/conn.h"'),
    ("daemon/ipc/x.c", '#include "realtime/phx.h"'),
    ("daemon/realtime/x.c", '#include "hub/hub.h"'),
    ("daemon/hub/x.c", '# include "app/app.h"'),
    ("daemon/hub/x.c", '#include "wire/wire_in.h"'),
    ("daemon/hub/x.c", "#include <libwebsockets.h>"),
    ("daemon/app/x.c", "#include <rtbridge/rtbridge.h>"),
    ("daemon/app/x.c", "  #include <ini_configobj.h>"),
    ("daemon/app/x.c", '#include "nowhere.h"'),
    ("daemon/ipc/x.c", "#include <event2/event.h>"),
    ("daemon/ipc/x.c", "#include <openssl/evp.h>"),
    ("daemon/base/x.c", "#include <systemd/sd-daemon.h>"),
    ("proto/x.c", '#include "base/log.h"'),
    ("proto/x.c", '#include "daemon/base/log.h"'),
    ("proto/x.c", "#include <msgpack.h>"),
    ("proto/x.c", "#include <bsd/sys/tree.h>"),
    ("proto/x.c", "#include <jansson.h>"),
    ("libclient/x.c", '#include "base/log.h"'),
    ("libclient/x.c", "#include <msgpack.h>"),
    ("libclient/cli/x.c", '#include "proto/rtbp_a.h"'),
    ("libclient/cli/x.c", '#include "../client.h"'),
    ("libclient/examples/x.c", "#include <event2/event.h>"),
]


def self_test():
    assert check(HOUSE) == [], check(HOUSE)
    for path, text in PLANTED:
        assert check({**HOUSE, path: text}), f"not found: {path}: {text}"


if __name__ == "__main__":
    self_test()
    sources = [p for p in tree.paths(".c", ".h") if p.startswith(("proto/", "libclient/", "daemon/"))]
    tree.report(check({p: tree.read(p) for p in sources}), f"the includes of {len(sources)} files")
