#!/usr/bin/env bash
# Tests where mistakes show that pass unnoticed elsewhere; arguments after the name go to pytest.
#
#   tests/under.sh sanitizers   AddressSanitizer and UndefinedBehaviorSanitizer
#   tests/under.sh valgrind     memcheck, at the levels up to v3: valgrind has no AVX-512
#   tests/under.sh old-cpus     x86-64 CPUs that lack AVX2, or AVX-512, emulated
#   tests/under.sh aarch64      built for aarch64, which is emulated
#
# Needs gcc, valgrind and, for the last two, qemu-user. The last is for root on Debian 12, with
# Python 3.11, debootstrap and gcc-aarch64-linux-gnu.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1-}
shift || true

folder=$(mktemp --directory)
trap 'rm -rf "$folder"' EXIT

# Built from a copy: objects that another build left behind would be taken for this one's.
copy_sources() {
    mkdir "$folder/sources"
    git ls-files --cached --others --exclude-standard -z |
        tar --create --null --files-from=- | tar --extract --directory="$folder/sources"
    cd "$folder/sources"
}

install() {
    copy_sources
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet '.[test]'
}

case $what in
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
    # The benchmarks' tests train networks: minutes, and what they compare is not this library.
    "$python" -m pytest --ignore=tests/test_benchmarks.py "$@"
    ;;
*)
    sed -n '2,/^set/s/^# \?//p' "$0"
    exit 2
    ;;
esac
