#!/usr/bin/env bash
# Tests where mistakes show that pass unnoticed elsewhere; arguments after the name go to pytest.
#
#   tools/under.sh here          this machine, its $CC and $PYTHON (python3)
#   tools/under.sh ci            here: .ci/run
#   tools/under.sh strained      here too: no terminal, TERM=dumb, SIGINT ignored, not as root,
#                                sources read-only, four busy processes beside it; needs
#                                python3-dev and python3-venv, or a $PYTHON that all may run
#   tools/under.sh gcc-11        here too, by an older compiler: GCC 11
#   tools/under.sh clang-14      the same: Clang 14
#   tools/under.sh debian13      .ci/run on a fresh Debian 13: GCC 14, Python 3.13
#   tools/under.sh debian-sid    Debian's newest: GCC 16, Python 3.14
#   tools/under.sh debian-next   the same, with the Python after it: 3.15
#   tools/under.sh clang         Debian 13: Clang 22 and its OpenMP
#   tools/under.sh free-threaded without the GIL: CPython 3.13 of Debian 13, built from source, or
#                                the interpreter that $PYTHON names
#   tools/under.sh sanitizers    AddressSanitizer and UndefinedBehaviorSanitizer
#   tools/under.sh valgrind      memcheck, at the levels up to v3: valgrind has no AVX-512
#   tools/under.sh old-cpus      x86-64 CPUs that lack AVX2, or AVX-512, emulated
#   tools/under.sh aarch64       built for aarch64, which is emulated
#
# Needs gcc, valgrind and, for the last two, qemu-user. The last is for root on Debian 12, with
# Python 3.11, debootstrap and gcc-aarch64-linux-gnu. Those on another Debian are for root with
# debootstrap and its keyring; $UNDER_ROOTS, a folder, keeps what they unpack for the next time.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1-}
shift || true

folder=$(mktemp --directory)
trap 'rm -rf "$folder"' EXIT

# Built from a copy: objects that another build left behind would be taken for this one's.
copy_sources_to() {
    mkdir --parents "$1"
    git ls-files --cached --others --exclude-standard -z |
        tar --create --null --files-from=- | tar --extract --directory="$1" --no-same-owner
}

copy_sources() {
    copy_sources_to "$folder/sources"
    cd "$folder/sources"
}

install() {
    copy_sources
    "${PYTHON:-python3}" -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet "${@:-.[test]}"
}

# Runs a command whose output has pytest's counts, and ends with a row of docs/evidence.md.
with_row() {
    local python=$1 status=0
    shift
    "$@" 2>&1 | tee "$folder/log" || status=$?
    "$python" - "$folder/log" <<'END'
import os, platform, re, subprocess, sys
import numpy
machine = platform.freedesktop_os_release()["PRETTY_NAME"]
told = subprocess.run(
    [*os.environ.get("CC", "cc").split(), "--version"], capture_output=True, text=True
).stdout.splitlines()[0]
name = "Clang" if "clang" in told else "GCC"
compiler = f"{name} {re.findall(r'[0-9]+[.][0-9]+[.][0-9]+', told)[-1]}"
gil = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else ", no GIL"
counted = r"^=* ?((?:\d+ \w+, )*\d+ passed.*?) in [\d.]+s"
counts = re.findall(counted, open(sys.argv[1]).read(), re.M)
print("|", machine, "|", compiler, "|", sys.version.split()[0] + gil, "|", numpy.__version__, "|",
      counts[0] if counts else "no test was counted", "|")
END
    return "$status"
}

# A Debian of another suite in $root, with some packages.
debian() {
    local suite=$1
    shift
    root=${UNDER_ROOTS:-$folder}/$suite
    if [ ! -e "$root/etc/debian_version" ]; then
        debootstrap --variant=minbase "$suite" "$root" >"$folder/debootstrap"
    fi
    # The certificates that this machine trusts, for a network behind a proxy.
    mkdir --parents "$root/etc/ssl/certs"
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    # A mirror may lag behind the date until which its lists are valid.
    inside apt-get -o Acquire::Check-Valid-Until=false update -qq
    inside env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends binutils git python3 "$@" >"$folder/apt"
    rm -rf "$root/sources"
    copy_sources_to "$root/sources"
    inside git -c safe.directory=/sources -C /sources init --quiet
    inside git -c safe.directory=/sources -C /sources add --all
}

# A command in $root, where /proc and /dev are this machine's for as long as it runs.
inside() {
    unshare --mount sh -euc '
        mount --rbind /proc "$1/proc"
        mount --rbind /dev "$1/dev"
        root=$1
        shift
        exec chroot "$root" "$@"' sh "$root" "$@"
}

inside_sources() {
    inside sh -euc 'cd /sources; exec "$@"' sh "$@"
}

case $what in
here)
    install
    with_row "$folder/venv/bin/python" "$folder/venv/bin/python" -m pytest "$@"
    "$folder/venv/bin/python" tools/vectorised.py
    ;;
ci)
    with_row .venv/bin/python .ci/run
    ;;
strained)
    # The system's Python: another's may lie where only its owner may look.
    PYTHON=${PYTHON:-/usr/bin/python3} install
    chmod -R a-w,a+rX "$folder"
    chmod u+w "$folder"
    mkdir --mode=1777 "$folder/tmp"
    user=()
    if [ "$(id --user)" = 0 ]; then
        user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    fi
    busy=()
    for _ in 1 2 3 4; do
        (while :; do :; done) &
        busy+=($!)
    done
    trap 'kill "${busy[@]}"; chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
    with_row "$folder/venv/bin/python" sh -c 'trap "" INT; exec "$@"' sh \
        env TERM=dumb HOME="$folder/tmp" TMPDIR="$folder/tmp" PYTHONDONTWRITEBYTECODE=1 \
        "${user[@]}" setsid --wait "$folder/venv/bin/python" -m pytest "$@" </dev/null
    ;;
gcc-11 | clang-14)
    export CC=$what
    install
    "$folder/venv/bin/python" -c "
import relu_ext; assert relu_ext.cpu_levels().built == ('v2', 'v3', 'v4')"
    with_row "$folder/venv/bin/python" "$folder/venv/bin/python" -m pytest "$@"
    ;;
debian13)
    debian trixie gcc libc6-dev python3-dev python3-venv
    inside_sources tools/under.sh ci
    ;;
debian-sid)
    debian sid gcc libc6-dev python3-dev python3-venv
    inside_sources tools/under.sh here "$@"
    ;;
debian-next)
    debian sid gcc libc6-dev python3.15-dev python3.15-venv
    inside_sources env PYTHON=python3.15 tools/under.sh here "$@"
    ;;
clang)
    debian trixie clang-22 libomp-22-dev binutils libc6-dev libgcc-14-dev python3-dev python3-venv
    inside_sources env CC=clang-22 tools/under.sh here "$@"
    ;;
free-threaded)
    if [ -z "${PYTHON-}" ]; then
        debian trixie build-essential libbz2-dev libffi-dev liblzma-dev libsqlite3-dev libssl-dev \
            zlib1g-dev
        sed -n "s/^deb /deb-src /p" "$root/etc/apt/sources.list" \
            >"$root/etc/apt/sources.list.d/sources.list"
        inside sh -euc '
            python=/opt/python3.13t/bin/python3.13t
            if [ ! -e "$python" ]; then
                apt-get update -qq
                mkdir --parents /opt/source
                cd /opt/source
                apt-get source --download-only -qq python3.13
                tar --extract --strip-components=1 --file "$(echo python3.13_*.orig.tar.xz)"
                ./configure -q --disable-gil --prefix=/opt/python3.13t
                make -s -j2
                make -s install
            fi
            cd /sources
            PYTHON=$python exec tools/under.sh free-threaded "$@"' sh "$@"
        exit
    fi
    # The last NumPy and hypothesis with wheels for 3.13t; without what has none, and so without the
    # tests of the benchmarks and of the types. Nothing is compiled against another NumPy.
    packages=(Cython ml_dtypes pytest rich setuptools threadpoolctl)
    if [ "$("$PYTHON" -c 'import sys; print(sys.version_info >= (3, 14))')" = True ]; then
        packages+=(hypothesis numpy)
    else
        packages+=('hypothesis<6.140' 'numpy<2.4')
    fi
    install --only-binary=:all: "${packages[@]}"
    "$folder/venv/bin/pip" install --quiet --no-build-isolation --no-deps .
    export PYTHON_GIL=0
    with_row "$folder/venv/bin/python" "$folder/venv/bin/python" -m pytest \
        --ignore=tests/test_benchmarks.py --ignore=tests/test_types.py "$@"
    "$folder/venv/bin/python" tools/scaling.py
    ;;
sanitizers)
    RELU_EXT_SANITIZE=address,undefined install
    # Freed memory is kept from reuse, so that memory grows, and Python's allocator, which would
    # hide the ends of its blocks, counts none. Python itself frees little at its end.
    PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
        LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
        "$folder/venv/bin/python" -m pytest --capture=sys \
        --deselect tests/test_robustness.py::test_no_call_leaks \
        --deselect tests/test_robustness.py::test_a_leak_is_found "$@"
    ;;
valgrind)
    install
    # Without longdouble, which valgrind computes in 64 bits. The dynamic linker, Python and NumPy
    # have reports of their own; none may come from, or through, this library.
    PYTHONMALLOC=malloc valgrind --quiet --num-callers=40 --log-file="$folder/%p.log" \
        "$folder/venv/bin/python" -m pytest tests/test_kernels.py tests/test_robustness.py \
        -k "not float128 and not test_no_call_leaks and not test_a_leak_is_found \
            and not guards_are_awake and not every_bit_pattern" "$@"
    ! grep --before-context=40 --after-context=20 relu_ext "$folder"/*.log
    ;;
old-cpus)
    install
    for cpu in SandyBridge:v2 Haswell:v3; do
        emulated=(qemu-x86_64 -cpu "${cpu%:*}" "$folder/venv/bin/python")
        "${emulated[@]}" -c "import relu_ext; assert relu_ext.cpu_levels().active == '${cpu#*:}'"
        # The tests that start other processes would start them on this machine's CPU.
        "${emulated[@]}" -m pytest tests/test_{kernels,api,buffers,properties}.py "$@"
    done
    # Below x86-64-v2: the module that asks the CPU alone, because NumPy itself may need as much.
    qemu-x86_64 -cpu core2duo "$folder/venv/bin/python" -c "
import importlib.machinery, importlib.util, sysconfig
path = sysconfig.get_path('platlib') + '/relu_ext/_core' + sysconfig.get_config_var('EXT_SUFFIX')
loader = importlib.machinery.ExtensionFileLoader('relu_ext._dispatch', path)
spec = importlib.util.spec_from_loader(loader.name, loader)
try:
    loader.exec_module(importlib.util.module_from_spec(spec))
except ImportError as error:
    assert 'x86-64-v2' in str(error), error
else:
    raise AssertionError('imported')"
    ;;
aarch64)
    copy_sources
    root=$folder/root
    debootstrap --foreign --arch=arm64 --variant=minbase \
        --include=libgomp1,libpython3-dev,python3 bookworm "$root" >"$folder/log"
    for package in "$root"/var/cache/apt/archives/*.deb; do
        dpkg-deb --extract "$package" "$root"
    done
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet --upgrade build cython numpy setuptools
    cp "$root/usr/lib/python3.11/_sysconfigdata__aarch64-linux-gnu.py" "$folder"
    _PYTHON_HOST_PLATFORM=linux-aarch64 PYTHONPATH=$folder \
        _PYTHON_SYSCONFIGDATA_NAME=_sysconfigdata__aarch64-linux-gnu \
        CPPFLAGS="--sysroot=$root -I$root/usr/include/python3.11" \
        "$folder/venv/bin/python" -m build --wheel --no-isolation
    # A virtual environment whose python is a script, so that the tests' other processes, which run
    # sys.executable, are emulated, too.
    python=$folder/emulated/bin/python
    mkdir --parents "$folder/emulated/bin"
    printf '#!/bin/sh\nexec qemu-aarch64 -0 "$0" -L "%s" "%s" "$@"\n' \
        "$root" "$root/usr/bin/python3.11" >"$python"
    chmod +x "$python"
    echo "home = $root/usr/bin" >"$folder/emulated/pyvenv.cfg"
    "$folder/venv/bin/pip" install --quiet --only-binary=:all: --python-version=3.11 \
        --platform={linux,manylinux2014,manylinux_2_{17..36}}_aarch64 \
        --target="$folder/emulated/lib/python3.11/site-packages" "$(echo dist/*.whl)[test]"
    "$python" -c "
import relu_ext; relu_ext.show_config(); assert relu_ext.cpu_levels().built == ('base',)"
    # The benchmarks' tests train networks: minutes, and what they compare is not this library. QEMU
    # itself (7.2) aborts where a process that was forked beside threads starts one, as NumPy does.
    "$python" tools/vectorised.py --objdump aarch64-linux-gnu-objdump
    CC=aarch64-linux-gnu-gcc with_row "$python" \
        "$python" -m pytest --ignore=tests/test_benchmarks.py \
        --deselect tests/test_walk.py::test_a_fork_before_the_import "$@"
    ;;
*)
    sed -n '2,/^set/s/^# \?//p' "$0"
    exit 2
    ;;
esac
