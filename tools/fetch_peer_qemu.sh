#!/usr/bin/env bash
# usage: fetch_peer_qemu.sh FOLDER     QEMU 10 from Debian's backports, unpacked beside the installed one, for
# `./run bench migration`: FOLDER/qemu starts it. Nothing is installed; the libraries it needs come with QEMU 7.2.
set -euo pipefail
into=$(mkdir -p "$1" && cd "$1" && pwd)
[[ ! -x $into/qemu ]] || exit 0

# The mirror that this machine already uses.
mirror=$(apt-get indextargets --format '$(SITE)' 'Codename: bookworm' 'Component: main' 'Created-By: Packages' | head -n 1)
[[ -n $mirror ]] || { echo "fetch_peer_qemu.sh: apt knows no source of bookworm; add one" >&2; exit 1; }
mkdir -p "$into"/apt/{lists,cache/archives}/partial
echo "deb ${mirror%/} bookworm-backports main" >"$into/apt/sources.list"
apt_here() {
    apt-get -qq -o Dir::Etc::sourcelist="$into/apt/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$into/apt/lists" -o Dir::Cache="$into/apt/cache" -o APT::Sandbox::User=root "$@"
}
apt_here update
(cd "$into/apt" && apt_here download qemu-system-x86/bookworm-backports qemu-system-common/bookworm-backports \
    qemu-system-data/bookworm-backports seabios/bookworm-backports)
for package in "$into"/apt/*.deb; do dpkg-deb -x "$package" "$into/unpacked"; done
rm -rf "$into/apt"
cat >"$into/qemu.new" <<WRAPPER
#!/bin/sh
exec env QEMU_MODULE_DIR="$into/unpacked/usr/lib/x86_64-linux-gnu/qemu" "$into/unpacked/usr/bin/qemu-system-x86_64" \\
    -L "$into/unpacked/usr/share/qemu" -L "$into/unpacked/usr/share/seabios" "\$@"
WRAPPER
chmod +x "$into/qemu.new"
"$into/qemu.new" --version
mv "$into/qemu.new" "$into/qemu"
