#!/usr/bin/env bash
# The whole story on a real runtime, made of Debian packages: install two
# versions, run a program on the old one, upgrade, see the collector leave the
# old version alone, end the program, see it collected.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
runtimes=$root/build/runtimes

work=$(mktemp -d)
chmod 755 "$work"
game= player=
finish() {
	[ -z "$game" ] || kill "$game" "$player" 2>/dev/null || true
	rm -rf "$work"
}
trap finish EXIT

PATH=$root:$PATH
export BERTH_STORE=$work/store
mkdir "$work/channel"
cat >"$work/config.toml" <<TOML
[gc]
keep = 0
grace = "0s"

[runtime.debian]
source = "$work/channel"
TOML

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
try() {
	local shown="$*"
	printf '$ %s\n' "${shown//"$work"\//}"
	"$@"
}
b() { try berth --config "$work/config.toml" "$@"; }
offer() { # offer VERSION: as a publisher does, the archive before its digest
	ln -f "$runtimes/debian-$1.tar.zst" "$work/channel/" 2>/dev/null ||
		cp "$runtimes/debian-$1.tar.zst" "$work/channel/"
	(cd "$work/channel" && sha256sum -- *.tar.zst >SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS)
}
expect() { # expect STATUS COMMAND...: the command must end with STATUS
	local want=$1 got=0
	shift
	"$@" || got=$?
	printf '  (exit status %d)\n' "$got"
	[ "$got" = "$want" ] || { echo "demo: exit status $got, not $want" >&2; exit 1; }
}
fail() { echo "demo: $*" >&2; exit 1; }

say "A channel offers version 12.0 of the runtime"
offer 12.0
b install debian
b verify debian
b run debian python3 -c 'import os; print("python3 of", os.environ["BERTH_REF"])'

say "A program starts on it, and keeps running"
berth --config "$work/config.toml" run debian python3 -c '
import sys, time
print("the game runs on", sys.prefix, flush=True)
time.sleep(1000)' &
game=$!
# The game's own process is inside of bubblewrap.
for _ in $(seq 100); do
	player=$(berth ps debian | awk -F '\t' '$4 == "python3" { print $2; exit }')
	[ -z "$player" ] || break
	sleep 0.1
done
b ps debian

say "The channel offers 12.1: upgrade, which collects the old version, were it free"
offer 12.1
b upgrade debian
b list

say "Neither the collector nor a hand takes it away"
b gc
expect 75 b remove debian@12.0
b gc --dry-run
[ -x "$BERTH_STORE/runtimes/debian/12.0/files/bin/python3" ] || fail "12.0 is damaged"
kill -0 "$player" || fail "the game has died"

say "New programs run on the new version"
b run debian sh -c 'echo "$BERTH_REF"; grep PRETTY /etc/os-release || :'

say "The program ends; now the old version goes"
kill "$player"
wait "$game" 2>/dev/null || :
game=
b gc --wait 10s
b list
[ ! -e "$BERTH_STORE/runtimes/debian/12.0" ] || fail "12.0 is still there"
[ -z "$(ls "$BERTH_STORE/trash" "$BERTH_STORE/staging" | grep -v :)" ] || fail "something is left over"
b verify debian

printf '\nThat was the whole story: nothing was taken away from a running program.\n'
