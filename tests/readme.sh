#!/usr/bin/env bash
# Follows README.md word by word on a fresh clone: in a new Debian 12 made by debootstrap where that works (root), else in an
# empty HOME on this machine.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/rtbridge-readme.XXXXXX")
fresh=$work/debian

cleanup() {
    for fs in proc dev/pts dev; do
        if mountpoint -q "$fresh/$fs" 2>/dev/null; then umount "$fresh/$fs"; fi
    done
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT

clone() { # DIR: the committed tree when there is one, else the files as they are
    if git -C "$root" rev-parse HEAD >/dev/null 2>&1; then
        git clone -q "$root" "$1"
    else
        mkdir -p "$1" && tar -C "$root" --exclude=./build -cf - . | tar -C "$1" -xf -
    fi
}

make_fresh() {
    [ "$(id -u)" -eq 0 ] && command -v debootstrap >/dev/null || return 1
    local mirror
    mirror=$(sed -n 's/^\(deb\|URIs:\) *\(\[[^]]*\] *\)\{0,1\}\(http[^ ]*\).*/\3/p' /etc/apt/sources.list \
        /etc/apt/sources.list.d/* 2>/dev/null | grep -v security | head -n 1)
    [ -n "$mirror" ] || return 1
    echo "readme: making a fresh Debian 12 in $fresh"
    debootstrap --variant=minbase --include=ca-certificates bookworm "$fresh" "$mirror" >"$work/debootstrap.log" 2>&1 || {
        tail -n 3 "$work/debootstrap.log"
        return 1
    }
    # How this machine reaches its packages is the machine's business; the new system gets the same way.
    cp -r /etc/apt/apt.conf.d/. "$fresh/etc/apt/apt.conf.d/"
    rm -f "$fresh/etc/apt/sources.list"
    for f in /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/auth.conf.d /etc/apt/apt.conf; do
        if [ -e "$f" ]; then rm -rf "${fresh:?}$f" && cp -r "$f" "$fresh$f"; fi
    done
    cp -r /etc/ssl/certs/. "$fresh/etc/ssl/certs/" 2>/dev/null || true
    cp -L /etc/resolv.conf /etc/hosts "$fresh/etc/" 2>/dev/null || true
    mount --bind /dev "$fresh/dev" && mount --bind /dev/pts "$fresh/dev/pts" && mount -t proc proc "$fresh/proc"
}

if make_fresh; then
    clone "$fresh/root/rtbridge"
    cp "$root/tests/readme.py" "$fresh/root/readme.py"
    # The checker needs Python before the README has installed it.
    chroot "$fresh" sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 >/dev/null'
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        chroot "$fresh" /usr/bin/python3 /root/readme.py /root/rtbridge/README.md /root/rtbridge
else
    echo "readme: no fresh Debian can be made here; using an empty HOME"
    clone "$work/rtbridge"
    /usr/bin/python3 "$root/tests/readme.py" "$work/rtbridge/README.md" "$work/rtbridge"
fi
echo "readme: every block did what it shows"
