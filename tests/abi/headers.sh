#!/bin/sh
# SPDX-License-Identifier: MIT
# The public headers compile alone and without warnings as C99, C17 and C++: headers.sh INCLUDE_DIR CC CXX
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

for header in rtbridge libevent; do
	cat >"$dir/$header.c" <<-END
		#include <rtbridge/$header.h>
		#include <rtbridge/$header.h>
		int use(void);
		int use(void)
		{
			struct rtb_options client = RTB_OPTIONS_INIT;
			struct rtb_sub_options sub = RTB_SUB_OPTIONS_INIT;
			struct rtb_send_options send = RTB_SEND_OPTIONS_INIT;
			struct rtb_track_options track = RTB_TRACK_OPTIONS_INIT;
			struct rtb_watch_options watch = RTB_WATCH_OPTIONS_INIT;
			return (int)(client.size + sub.size + send.size + track.size + watch.size);
		}
	END
	cp "$dir/$header.c" "$dir/$header.cc"
	for std in c99 c17; do
		"$2" -std=$std -Wall -Wextra -pedantic -Werror -I"$1" -c "$dir/$header.c" -o "$dir/o"
	done
	for std in c++11 c++17; do
		"$3" -std=$std -Wall -Wextra -pedantic -Werror -I"$1" -c "$dir/$header.cc" -o "$dir/o"
	done
done
