#!/usr/bin/env bash
# Installs what the tests need, then runs everything: scripts, format, lints, docs, unit, property and integration
# tests, and requests made up from the OpenAPI documents.
#
# The tests start the Redis servers they need by themselves, on free ports. Every check runs even if an earlier one
# failed. The last line is always `N passed, N failed`, where a check such as the format counts as one test; the exit
# status is 0 only if nothing failed.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$root"
# shellcheck source=deploy/install-redis.sh
source deploy/install-redis.sh
# shellcheck source=deploy/install-proxies.sh
source deploy/install-proxies.sh

# From nothing, incremental compilation only costs time and disk. Flags of the compiler stay the same in all steps:
# lints and docs get theirs in a way that does not touch the dependencies, so that those are not compiled for each.
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}
export CARGO_TERM_COLOR=never

# What tests make up is the same wherever these very files are tested, so that a failure is seen again, and another after
# each change. Longer runs with other seeds: see fuzz-api.sh, and PROPTEST_CASES.
tree=$(git rev-parse --verify --quiet 'HEAD^{tree}' 2>/dev/null || echo 0000001)
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-$((16#${tree:0:7}))}

passed=0
failed=0
failed_names=()
log=$(mktemp "${TMPDIR:-/tmp}/portcullis-test.XXXXXX")
trap 'rm -f -- "$log"' EXIT

# Counts `failures` failures under this name.
fail() {
    local name=$1 failures=${2:-1}
    failed=$((failed + failures))
    failed_names+=("$name")
}

# Runs a command as one check of this name.
check() {
    local name=$1 started=$SECONDS
    shift
    echo "== $name"
    if "$@"; then
        passed=$((passed + 1))
    else
        fail "$name"
    fi
    echo "== $name: $((SECONDS - started)) s"
}

# Prints the failures by name and the line that tools read.
report() {
    local name
    for name in ${failed_names[@]+"${failed_names[@]}"}; do
        echo "FAILED: $name"
    done
    echo "$passed passed, $failed failed"
}

install_needs() {
    if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    if ! command -v cargo >/dev/null; then
        echo "cargo is not installed; install a Rust toolchain from https://rustup.rs and run this again" >&2
        return 1
    fi
    if ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then
        rustup component add rustfmt clippy || return 1
    fi
    ensure_redis && ensure_proxies
}

check_scripts() {
    local script scripts=(deploy/*.sh .ci/run)
    for script in "${scripts[@]}"; do
        bash -n "$script" || return 1
    done
    if command -v shellcheck >/dev/null; then
        shellcheck --external-sources "${scripts[@]}"
    fi
}

build_docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
}

# Runs the tests and adds up the `test result:` lines of all test programs.
run_tests() {
    local started=$SECONDS status=0 sum_passed sum_failed bad_results bad_programs
    echo "== tests (made up with seed $PROPTEST_RNG_SEED)"
    cargo test --workspace --locked --no-fail-fast 2>&1 | tee -- "$log" || status=$?
    read -r sum_passed sum_failed bad_results bad_programs < <(awk '
        /^test result:/ {
            for (i = 2; i <= NF; i++) {
                if ($i == "passed;") passed += $(i - 1)
                if ($i == "failed;") failed += $(i - 1)
            }
            if ($3 == "FAILED.") bad_results++
        }
        /^ +`-p .*`$/ { bad_programs++ }
        END { print passed + 0, failed + 0, bad_results + 0, bad_programs + 0 }
    ' "$log")
    passed=$((passed + sum_passed))
    if [[ $sum_failed -gt 0 ]]; then
        fail "$sum_failed tests: $(sed -nE 's/^test (.*) \.\.\. FAILED$/\1/p' "$log" | tr '\n' ' ')" "$sum_failed"
    fi
    # A test program that crashed has no result line, and one that was not built is not named at all.
    if [[ $bad_programs -gt $bad_results ]]; then
        fail "test programs that ended without a result" $((bad_programs - bad_results))
    elif [[ $status -ne 0 && $sum_failed -eq 0 ]]; then
        fail "tests: cargo test ended with $status"
    elif [[ $sum_passed -eq 0 ]]; then
        fail "tests: none ran"
    fi
    echo "== tests: $((SECONDS - started)) s"
}

if install_needs; then
    check "scripts" check_scripts
    check "format" cargo fmt --all -- --check
    check "lints" cargo clippy --workspace --all-targets --locked -- -D warnings
    check "docs" build_docs
    if cargo deny --version >/dev/null 2>&1; then
        check "dependencies" cargo deny --locked check bans licenses sources
    fi
    run_tests
    check "api fuzz" deploy/fuzz-api.sh --built --seed "$PROPTEST_RNG_SEED"
else
    fail "installing what the tests need"
fi
report
[[ $failed -eq 0 ]]
