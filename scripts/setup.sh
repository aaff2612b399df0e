#!/usr/bin/env bash
# Set up what a make target needs: system packages, .venv, and this package in it.
#
#   scripts/setup.sh build|demo|test|conformance|bench|bench-podman
#
# Quick when there is nothing to do. As root it installs missing Debian packages; for others it
# stops with the command to run. PYTHON=... chooses the interpreter (3.11 or later).
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin # where debootstrap is, also for those whose PATH is short

# What is looked for, and the Debian package that brings it. A command found anywhere will do.
BUILD="fusermount3=fuse3 pkg-config=pkg-config gcc=gcc fuse3.pc=libfuse3-dev libc.h=libc6-dev"
DEMO="debootstrap=debootstrap crun=crun"
TEST="$DEMO runc=runc bwrap=bubblewrap umoci=umoci skopeo=skopeo buildah=buildah podman=podman
    fuse-overlayfs=fuse-overlayfs getfattr=attr getfacl=acl setcap=libcap2-bin
    newuidmap=uidmap mkfs.ext4=e2fsprogs mkfs.btrfs=btrfs-progs mkfs.xfs=xfsprogs
    mkfs.erofs=erofs-utils sqlite3=sqlite3 git=git zstd=zstd strace=strace
    fio=fio rsync=rsync stress-ng=stress-ng postgres=postgresql docker-registry=docker-registry
    mandoc=mandoc zsh=zsh fish=fish systemd-analyze=systemd ctr=containerd"
CONFORMANCE="fuse-overlayfs=fuse-overlayfs mkfs.ext4=e2fsprogs"
BENCH="debootstrap=debootstrap fuse-overlayfs=fuse-overlayfs umoci=umoci"
BENCH_PODMAN="debootstrap=debootstrap fuse-overlayfs=fuse-overlayfs podman=podman runc=runc"

main() {
    local wanted
    case "${1:-}" in
        build) wanted=$BUILD ;;
        demo) wanted="$BUILD $DEMO" ;;
        test) wanted="$BUILD $TEST" ;;
        conformance) wanted="$BUILD $CONFORMANCE" ;;
        bench) wanted="$BUILD $BENCH" ;;
        bench-podman) wanted="$BUILD $BENCH_PODMAN" ;;
        *) die "say what for: scripts/setup.sh build|demo|test|conformance|bench|bench-podman" ;;
    esac
    choose_python
    # shellcheck disable=SC2086,SC2046  # the lists are words to be split
    install_packages $(missing_packages $wanted) $(missing_for_python)
    make_environment
    compile_ahead
    [ "$1" = build ] || check_namespaces
}

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }

choose_python() {
    local candidate
    for candidate in ${PYTHON:-python3 /usr/bin/python3 python3.13 python3.12 python3.11}; do
        new_enough "$candidate" || continue
        # A version manager's shim would still ask which Python is meant: take what it leads to.
        PYTHON=$("$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))')
        return
    done
    die "no Python 3.11 or later found (looked for: ${PYTHON:-python3}); say PYTHON=/path/to/one"
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

missing_packages() {
    local pair
    for pair in "$@"; do
        present "${pair%%=*}" || echo "${pair#*=}"
    done
}

present() {
    case "$1" in
        *.pc) pkg-config --exists "${1%.pc}" 2>/dev/null ;;
        libc.h) [ -e /usr/include/stdio.h ] ;;
        postgres) # Debian keeps the server's programs out of the PATH
            compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || command -v "$1" >/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

# A Python from Debian leaves its headers and venv to packages of their own; others bring them.
missing_for_python() {
    local package
    package=$(basename "$PYTHON")
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || echo "$package-venv"
    "$PYTHON" -c 'import os, sysconfig, sys
sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || echo "$package-dev"
}

install_packages() {
    [ $# -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "missing, and there is no apt-get to install: $*"
    is_root || die "missing packages; run: sudo apt-get install $*"
    say "installing $*"
    case " $* " in *" postgresql "*) no_database_server ;; esac
    case " $* " in *" docker-registry "*) no_registry_server ;; esac
    apt-get update -qq || say "apt-get update failed; trying with the lists that are there"
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq \
        --no-install-recommends "$@" >/dev/null </dev/null
}

# Debian's package would make a database and start a server for it, which nobody asked us for.
no_database_server() {
    local conf=/etc/postgresql-common/createcluster.conf
    [ -e "$conf" ] || { mkdir -p "${conf%/*}" && echo "create_main_cluster = false" >"$conf"; }
}

# So would this one, a registry open to the network.
no_registry_server() {
    local unit=${REGISTRY_UNIT:-/etc/systemd/system/docker-registry.service}
    [ -e "$unit" ] || [ -L "$unit" ] || { mkdir -p "${unit%/*}" && ln -s /dev/null "$unit"; }
}

# The stamp names everything that the environment was made from, so that a change makes it anew.
make_environment() {
    local stamp
    stamp=.venv/.made-from-$(
        { pwd; echo "$PYTHON"; "$PYTHON" --version; cat pyproject.toml setup.py unionfs/*/_*.[ch]; } |
            sha256sum | cut -c 1-16
    )
    [ ! -e "$stamp" ] || return 0
    say "making .venv with $PYTHON ($("$PYTHON" --version))"
    "$PYTHON" -m venv --clear .venv
    .venv/bin/python -m pip install -q --disable-pip-version-check -e '.[dev]'
    touch "$stamp"
}

# As pip does for what it installs. Else whoever may not write here, or has Python write no bytecode
# (PYTHONDONTWRITEBYTECODE, as images for CI often have), has 90 modules compiled at each start.
compile_ahead() {
    .venv/bin/python -m compileall -q -j0 unionfs tests/support scripts
}

# Ubuntu 23.10 and later keep ordinary users from making the namespaces that programs run in.
check_namespaces() {
    local knob=/proc/sys/kernel/apparmor_restrict_unprivileged_userns
    is_root || [ "$(cat $knob 2>/dev/null || echo 0)" = 0 ] || unshare --user --map-root-user true \
        2>/dev/null || die "AppArmor keeps users from making user namespaces, which running a" \
        "program in a container needs; run: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
}

# Sourced by its tests, run by make.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    main "$@"
fi
