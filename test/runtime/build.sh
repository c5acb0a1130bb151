#!/usr/bin/env bash
# build.sh [--full] OUTDIR: makes two versions of a real runtime out of Debian
# packages: 12.0 of the release alone, 12.1 with its updates. Each in two
# shapes: "debian" is a merged /usr with Flatpak's metadata beside it,
# "debian-root" a whole root file system.
#
# --full adds what desktop programs and games want: about 1 GB.
set -euo pipefail

full=
if [ "${1-}" = --full ]; then
	full=1
	shift
fi
out=${1:?say where to}
suite=bookworm
stamp="suite $suite, full '$full', recipe 5"
if [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi

packages=mount,passwd,python3-minimal,libpython3-stdlib,zlib1g,libxcb1
if [ -n "$full" ]; then
	packages=$packages,bash,python3,ffmpeg,libsdl2-2.0-0,libgl1-mesa-dri,libglx-mesa0,libegl-mesa0,mesa-vulkan-drivers,libgtk-3-0,libgtk-3-common,gsettings-desktop-schemas,adwaita-icon-theme,fonts-dejavu-core,libasound2,libpulse0,libgtk-4-1,libwebkit2gtk-4.1-0,gstreamer1.0-plugins-good,gstreamer1.0-plugins-bad,libqt6widgets6,python3-numpy,python3-gi,fonts-noto-core,perl
fi

# mirror KIND: the machine's own mirror of the archive or of its security
# updates, from sources in either format.
mirror() {
	local kind=$1
	cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
		sed -nE 's/^URIs:[[:space:]]*([^[:space:]]+).*/\1/p; s/^deb (\[[^]]*\] )?([^[:space:]]+) .*/\2/p' |
		sed 's,/*$,,' |
		if [ "$kind" = security ]; then grep -E '/debian-security$'; else grep -E '/debian$'; fi | head -n 1
}
archive=$(mirror archive || :)
security=$(mirror security || :)
sources() { # sources UPDATES: lines of sources.list
	local signed=/usr/share/keyrings/debian-archive-keyring.gpg
	[ -n "$archive" ] || { echo "build.sh: no Debian mirror in the sources of apt; set DEBIAN_MIRROR" >&2; exit 1; }
	echo "deb [signed-by=$signed] $archive $suite main"
	[ -z "$1" ] || {
		echo "deb [signed-by=$signed] $archive $suite-updates main"
		echo "deb [signed-by=$signed] ${security:-$archive-security} $suite-security main"
	}
}
archive=${DEBIAN_MIRROR:-$archive}

mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$(dirname "$out")/runtimes.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/out" "$work/out/other"

# What only people read is left out of the small one.
unread=(--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*'
	--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*')
[ -z "$full" ] || unread=()

# tree VERSION UPDATES: unpacks and configures the packages.
tree() {
	local version=$1 updates=$2 try
	for try in 1 2 3; do
		sources "$updates" >"$work/sources"
		if mmdebstrap --quiet --mode=root --variant=essential --include="$packages" \
			"${unread[@]}" \
			--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
			"$suite" "$work/$version" - <"$work/sources"; then
			break
		fi
		rm -rf "$work/$version"
		[ "$try" != 3 ] || { echo "build.sh: mmdebstrap failed three times" >&2; exit 1; }
		sleep $((try * 5))
	done
	rm -rf "$work/$version"/{dev,proc,sys,run,tmp,boot,home,media,mnt,srv,opt}/* \
		"$work/$version"/var/{cache,log,lib/apt,lib/dpkg}
	echo "$version" >"$work/$version/etc/berth-runtime"
}

pack() { # pack VERSION
	local version=$1 root=$work/$1 shape=$work/shape-$1
	local tar=(tar --sort=name --numeric-owner --format=posix)
	"${tar[@]}" -C "$root" -c . | zstd -q -T0 -o "$work/out/debian-root-$version.tar.zst"
	mkdir "$shape"
	mv "$root/usr" "$shape/files"
	mv "$root/etc" "$shape/files/etc"
	cat >"$shape/metadata" <<-KEYS
		[Runtime]
		name=debian
		runtime=debian/$(uname -m)/$suite
		x-flatdeb-build-id=$version
	KEYS
	"${tar[@]}" -C "$shape" -cf "$work/merged.tar" files metadata
	zstd -q -T0 "$work/merged.tar" -o "$work/out/debian-$version.tar.zst"
	if [ -z "$full" ] && [ "$version" = 12.0 ]; then
		gzip -c "$work/merged.tar" >"$work/out/other/debian-$version.tar.gz"
		xz -T0 -1 -c "$work/merged.tar" >"$work/out/other/debian-$version.tar.xz"
	fi
	rm -rf "$work/merged.tar" "$shape" "$root"
}

[ "$(id -u)" = 0 ] || exec sudo DEBIAN_MIRROR="$archive" "$0" ${full:+--full} "$out"
echo "build.sh: making the runtimes in $out"
tree 12.0 ''
pack 12.0
tree 12.1 updates
pack 12.1
(cd "$work/out" && sha256sum -- *.tar.zst >SHA256SUMS)
echo "$stamp" >"$work/out/stamp"
chmod -R a+rX "$work/out"
rm -rf "$out"
mv "$work/out" "$out"
