#!/usr/bin/env bash
# Shows Portcullis at work on a machine that has a Rust toolchain and nothing else: see usage below.
#
# Builds, then hands over to `portcullis-loadtest demo`, which owns every process it starts. Leaves nothing behind but
# the build in the target directory.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: deploy/quickstart.sh [--once] [--redis-url URL]

Builds Portcullis, starts a private Redis, two gateways and two processors with the built-in demo handler, sends traffic
of all four user types for a few seconds, prints who was admitted, who was refused and why, and the URLs and the token
to go on with. Runs until Ctrl-C. Installs redis-server if neither it nor valkey-server is there.

  --once           end after the traffic; exit 0 only if all went as it should
  --redis-url URL  use this Redis instead of a private one
  -h, --help       print this

Exit status: 0 all well, 1 something went wrong, 64 bad usage.
USAGE
}

bad_usage() {
    echo "quickstart.sh: $1" >&2
    usage >&2
    exit 64
}

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=deploy/install-redis.sh
source "$root/deploy/install-redis.sh"

demo_arguments=()
redis_url=
while [[ $# -gt 0 ]]; do
    case $1 in
        --once) demo_arguments+=(--once) ;;
        --redis-url)
            [[ -n ${2:-} ]] || bad_usage "--redis-url needs a URL"
            redis_url=$2
            shift
            ;;
        --redis-url=?*) redis_url=${1#--redis-url=} ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) bad_usage "unknown argument: $1" ;;
    esac
    shift
done

# rustup changes the PATH of login shells only.
if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
fi
if ! command -v cargo >/dev/null; then
    echo "cargo is not installed; install a Rust toolchain from https://rustup.rs and run this again" >&2
    exit 1
fi

if [[ -n $redis_url ]]; then
    demo_arguments+=(--redis-url "$redis_url")
else
    ensure_redis
fi

cargo build --manifest-path "$root/Cargo.toml" --release --locked --bins \
    -p portcullis-gateway -p portcullis-processor -p portcullis-loadtest

target_directory=$(cargo metadata --manifest-path "$root/Cargo.toml" --locked --no-deps --format-version 1 |
    sed -E 's/.*"target_directory":"([^"]*)".*/\1/')

# bash before 4.4, which macOS has, takes an empty array for an unset variable.
exec "$target_directory/release/portcullis-loadtest" demo ${demo_arguments[@]+"${demo_arguments[@]}"}
