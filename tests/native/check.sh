#!/usr/bin/env bash
# Builds the C++ test program in build/ and runs it, one way for each argument:
#
#   plain     every level that this CPU has
#   symbols   no level shares code with another, nor with the rest, by a symbol
#   address   under AddressSanitizer, with fresh memory full of NaN, and UndefinedBehaviorSanitizer
#   thread    under ThreadSanitizer
#   clang     compiled by Clang
#   cpus      under qemu, on an x86 CPU without AVX, and on one that is too old
#   aarch64   cross-compiled, under qemu
#
# GCC is needed for `thread`: Clang's ThreadSanitizer passes over the accesses of wide vectors.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

need() { # program, Debian package
  command -v "$1" > /dev/null && return
  echo "tests/native/check.sh: $1 is missing; install it (apt install $2)" >&2
  exit 1
}

build() { # folder, then arguments of cmake
  cmake -G Ninja -S . -B "build/$1" -DSKETCHRNN_FAST_TESTS=ON "${@:2}" > "build/$1.log" 2>&1 \
    || { cat "build/$1.log" >&2; return 1; }
  cmake --build "build/$1"
  program="build/$1/tests/native/native_tests"
}

build_plain() { build native-plain -DSKETCHRNN_FAST_WERROR=ON; }

build_sanitized() { # folder, the compiler's -fsanitize list
  build "$1" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_COMPILER=g++ \
    "-DCMAKE_CXX_FLAGS=-fsanitize=$2 -fno-sanitize-recover=all -fno-omit-frame-pointer"
}

check_plain() {
  build_plain
  "$program"
}

# Where nothing is optimised, every inline function that could be shared has a symbol.
check_symbols() {
  [[ $(uname -m) == x86_64 ]] || { echo "symbols: only x86 has several levels"; return; }
  need nm binutils
  build_plain
  build native-debug -DCMAKE_BUILD_TYPE=Debug
  local folder level shared
  for folder in build/native-plain build/native-debug; do
    for level in v2 v3 v4; do
      # The personality routine is the C++ library's pointer to its own function.
      shared=$(nm --defined-only "$folder/CMakeFiles/kernels_$level.dir/csrc/cpu/"*.o \
        | awk -v own="9sketchrnn2$level" \
          'NF == 3 && $2 ~ /[A-Zuvw]/ && !index($3, own) && $3 !~ /^DW.ref.__gxx_personality/ {
             print $3 }' | sort -u | c++filt)
      if [[ -n $shared ]]; then
        echo "$folder: the level $level shares these symbols:"
        echo "$shared"
        exit 1
      fi
    done
  done
  echo "symbols: the levels share none"
}

check_address() {
  build_sanitized sanitize-address address,undefined
  ASAN_OPTIONS=max_malloc_fill_size=1000000000:malloc_fill_byte=255 "$program" 12
}

check_thread() {
  build_sanitized sanitize-thread thread
  TSAN_OPTIONS=halt_on_error=1 "$program" 6
}

check_clang() {
  need clang++ clang
  build native-clang -DCMAKE_CXX_COMPILER=clang++ -DSKETCHRNN_FAST_WERROR=ON
  "$program" 6
}

check_cpus() {
  [[ $(uname -m) == x86_64 ]] || { echo "cpus: only x86 has several levels"; return; }
  need qemu-x86_64 qemu-user
  build_plain
  expect Nehalem x86-64-v2
  qemu-x86_64 -cpu Nehalem "$program" 1
  expect Conroe "native_tests: the native kernels need an x86-64-v2 CPU; this one is x86-64"
}

expect() { # a CPU that qemu knows, what the program must say of its level
  local found
  found=$(qemu-x86_64 -cpu "$1" "$program" level 2>&1) || true
  echo "$1: $found"
  [[ $found == "$2" ]] || { echo "but it must be: $2"; exit 1; }
}

check_aarch64() {
  need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
  need qemu-aarch64 qemu-user
  build native-aarch64 -DSKETCHRNN_FAST_WERROR=ON \
    "-DCMAKE_TOOLCHAIN_FILE=$PWD/tests/native/aarch64.cmake"
  qemu-aarch64 -L /usr/aarch64-linux-gnu "$program" 4
}

mkdir -p build
need cmake cmake
need ninja ninja-build
for way in "$@"; do
  case $way in
    plain | symbols | address | thread | clang | cpus | aarch64) "check_$way" ;;
    *) echo "tests/native/check.sh: there is no check $way" >&2; exit 1 ;;
  esac
done
