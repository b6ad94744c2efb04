# Sourced by the scripts: where things are, how to speak, how to install what is missing.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
script=$(basename "$0")

say() { printf '%s: %s\n' "$script" "$*"; }
die() {
    printf '%s: %s\n' "$script" "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "must install packages and is neither root nor has sudo; run as root: $*"
    fi
}

# need_packages GROUP...: installs what scripts/packages.txt lists for these groups and is not there yet.
need_packages() {
    local group package command missing=()
    command -v dpkg-query >/dev/null || die "this is no Debian system (no dpkg); install by hand what scripts/packages.txt names"
    while read -r group package command; do
        case " $* " in *" $group "*) ;; *) continue ;; esac
        if [ -n "$command" ] && command -v "$command" >/dev/null; then continue; fi
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done < <(grep -Ev '^(#|$)' "$root/scripts/packages.txt")
    [ ${#missing[@]} -eq 0 ] && return
    say "installing ${missing[*]}"
    as_root apt-get update -qq || die "apt-get update failed; is there a network?"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        die "could not install: ${missing[*]}"
}

# build_preset PRESET [CMAKE-ARGS...]: configures and builds build/PRESET.
build_preset() {
    local preset=$1
    shift
    say "building build/$preset"
    (cd "$root" && cmake --preset "$preset" "$@" >"/tmp/rtbridge-cmake.$$.log" 2>&1) || {
        cat "/tmp/rtbridge-cmake.$$.log" >&2
        rm -f "/tmp/rtbridge-cmake.$$.log"
        die "cmake could not configure the preset $preset; see above"
    }
    rm -f "/tmp/rtbridge-cmake.$$.log"
    cmake --build "$root/build/$preset" || die "the build of the preset $preset failed; see above"
}
