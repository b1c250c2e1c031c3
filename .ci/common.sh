# Shared by .ci/run and .ci/long. Everything happens in a temporary copy of the checkout, which stays as it is.
set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
src=$work/src
python=${PYTHON:-python3}
trap 'rm -rf "$work"' EXIT
trap 'echo "=== FAILED after $SECONDS s: ${heading:-preparation}" >&2' ERR
set -E

copy_source() { # the files that git knows or would take, into a folder without build products
    mkdir -p "$1"
    git -C "$checkout" ls-files -co --exclude-standard -z |
        (cd "$checkout" && xargs -0 cp --parents -t "$1")
}

step() { # HEADING COMMAND...: run the command in the copy and say how long it took; only=REGEX leaves steps out
    [[ $1 =~ ${only:-} ]] || return 0
    heading=$1
    shift
    local start=$SECONDS
    printf '\n=== %s\n' "$heading"
    cd "$src"
    "$@"
    echo "=== $heading: $((SECONDS - start)) s"
}

venv() { # NAME REQUIREMENT...: a fresh environment with these installed
    local path=$work/$1
    shift
    "${venv_python:-$python}" -m venv "$path"
    "$path/bin/pip" install -qq "$@"
}

build_and_test() { # NAME TEST...: build the copy as the environment variables say, in its own venv, and test it
    local name=$1
    shift
    copy_source "$work/$name-src"
    venv "$name" "$work/$name-src[test]"
    "$work/$name/bin/pytest" -q -n auto "$@"
}

sanitized() { # COMMAND...: run with the run-time of gcc's sanitizers; libstdc++ goes along for its exceptions
    env LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)" \
        ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 OPENBLAS_NUM_THREADS=1 "$@"
}

build_sanitized() { # NAME: build the copy with AddressSanitizer and UndefinedBehaviorSanitizer, in its own venv
    copy_source "$work/$1-src"
    IMPLICIT_CORE_DEBUG=1 IMPLICIT_CORE_SANITIZE=address,undefined venv "$1" "$work/$1-src[test]"
}

test_sanitized() { # NAME TEST...: the same as build_and_test with these sanitizers
    local name=$1
    shift
    build_sanitized "$name"
    sanitized "$work/$name/bin/python" "$work/$name/bin/pytest" -q -n auto "$@"
}
