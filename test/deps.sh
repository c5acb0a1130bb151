#!/usr/bin/env bash
# Installs by apt-get what the tests and the demo need and the machine lacks.
set -euo pipefail

# command:package, for every program that is called
needed="
bwrap:bubblewrap flatpak:flatpak ostree:ostree bsdtar:libarchive-tools mtree:mtree-netbsd mmdebstrap:mmdebstrap
mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs mkfs.ext4:e2fsprogs strace:strace busybox:busybox-static
tar:tar zstd:zstd xz:xz-utils bzip2:bzip2 gzip:gzip setfattr:attr setpriv:util-linux unshare:util-linux
flock:util-linux losetup:mount mount:mount script:bsdutils /usr/bin/python3:python3
gcc:gcc spin:spin git:git make:make
"
PATH=$PATH:/usr/sbin:/sbin

missing() {
	local pair
	for pair in $needed; do
		command -v "${pair%%:*}" >/dev/null || printf '%s\n' "$pair"
	done
	# The race detector links with the C library.
	[ -e /usr/include/stdlib.h ] || echo /usr/include/stdlib.h:libc6-dev
	# mmdebstrap checks Debian's signatures.
	[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || echo keyring:debian-archive-keyring
}

command -v go >/dev/null || { echo "deps: needs Go, see go.mod for the version" >&2; exit 1; }
lacking=$(missing)
[ -n "$lacking" ] || exit 0
packages=$(printf '%s\n' "$lacking" | cut -d: -f2 | sort -u)
echo "deps: installing" $packages

as_root=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || { echo "deps: needs root or sudo to install" $packages >&2; exit 1; }
	as_root=sudo
fi
export DEBIAN_FRONTEND=noninteractive
for try in 1 2 3; do
	if $as_root apt-get -qq update && $as_root apt-get -qq install -y --no-install-recommends $packages >/dev/null; then
		break
	fi
	[ "$try" = 3 ] || sleep $((try * 5))
done
lacking=$(missing)
[ -z "$lacking" ] || { echo "deps: still missing:" $lacking >&2; exit 1; }
