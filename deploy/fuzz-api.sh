#!/usr/bin/env bash
# Holds a running gateway to its own OpenAPI documents, with requests that Schemathesis makes up: see usage below.
#
# Everything it starts is its own, on ports that are free, and is gone when it ends. Schemathesis is installed into a
# virtual environment below the target directory, and found there the next time.
# shellcheck disable=SC2317 # Functions that are called through a trap or by their name.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: deploy/fuzz-api.sh [--built] [--seed N] [--seconds N]

Starts a private Redis, a gateway and a processor, and fuzzes what the public and the admin listener say they serve.

  --built      use the portcullis-loadtest that is in the target directory, instead of building it
  --seed N     make up the same requests as the run that printed this seed
  --seconds N  time for each of the two documents (default 25)
  -h, --help   print this

Exit status: 0 nothing found, 1 something found or not run, 64 bad usage.
USAGE
}

bad_usage() {
    echo "fuzz-api.sh: $1" >&2
    usage >&2
    exit 64
}

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$root"
# shellcheck source=deploy/install-redis.sh
source deploy/install-redis.sh

version=4.32.5
target=${CARGO_TARGET_DIR:-$root/target}
environment=$target/fuzz-api/schemathesis-$version
built=
seed=$((RANDOM * 32768 + RANDOM))
seconds=25
while [[ $# -gt 0 ]]; do
    case $1 in
        --built) built=yes ;;
        --seed | --seconds)
            [[ ${2:-} =~ ^[0-9]+$ ]] || bad_usage "$1 needs a number"
            if [[ $1 == --seed ]]; then seed=$2; else seconds=$2; fi
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) bad_usage "unknown argument: $1" ;;
    esac
    shift
done

work=$(mktemp -d "${TMPDIR:-/tmp}/portcullis-fuzz.XXXXXX")
pids=()

# Ends what was started, in the reverse order, and waits until it has ended.
clean_up() {
    local index
    for ((index = ${#pids[@]} - 1; index >= 0; index--)); do
        kill -TERM "${pids[index]}" 2>/dev/null || true
        for _ in {1..50}; do
            kill -0 "${pids[index]}" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "${pids[index]}" 2>/dev/null || true
        wait "${pids[index]}" 2>/dev/null || true
    done
    rm -rf -- "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Makes sure that Python can make virtual environments.
ensure_python() {
    if python3 -c 'import ensurepip, venv' 2>/dev/null; then
        return 0
    fi
    if command -v apt-get >/dev/null; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 update >&2 || true
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 \
            install --no-install-recommends python3-venv >&2 || true
    fi
    python3 -c 'import ensurepip, venv' 2>/dev/null && return 0
    echo "python3 with venv is not installed (Debian, Ubuntu: apt-get install python3-venv)" >&2
    return 1
}

ensure_schemathesis() {
    if "$environment/bin/st" --version >/dev/null 2>&1; then
        return 0
    fi
    ensure_python || return 1
    rm -rf -- "$environment"
    python3 -m venv "$environment" || return 1
    "$environment/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
}

# A port of loopback that is free now.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Starts a program in the background; its output goes to a file of this name.
start() {
    local name=$1
    shift
    "$@" >"$work/$name.out" 2>"$work/$name.err" </dev/null &
    pids+=($!)
}

# Waits until the last program that was started satisfies a condition.
await() {
    local name=$1 pid=${pids[-1]}
    shift
    for _ in {1..600}; do
        if "$@"; then
            return 0
        fi
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    echo "$name did not start:" >&2
    cat -- "$work/$name.out" "$work/$name.err" >&2
    return 1
}

answers() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

listens() {
    grep -q '^listening ' "$work/$1.out"
}

# The address that a program announced for one of its listeners.
address() {
    sed -nE "s/^listening .*\\b$2=([^ ]+).*/\\1/p" "$work/$1.out" | head -n 1
}

start_cluster() {
    local port server
    server=$(redis_executable)
    port=$(free_port)
    start redis "$server" --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$work"
    await redis answers "$port" || return 1
    export REDIS_URL=redis://127.0.0.1:$port
    # Requests are to be looked at, not to be turned away.
    export GATEWAY_CONFIG_JSON='{
        "tenant": "fuzz", "project": "api",
        "rate_limits": {"roles": {"privileged": {"hourly": -1, "burst": 1000000, "burst_window": 60}}}
    }'
    echo 'failed_attempts: { per_minute: 1000000 }' >"$work/identity.yaml"
    export PORTCULLIS_IDENTITY_PATH=$work/identity.yaml
    export PORTCULLIS_ADMIN_TOKEN=$token PORTCULLIS_DRAIN_SECONDS=0 PORTCULLIS_ADMIN_LISTEN=127.0.0.1:0
    # A slow answer of Redis is the machine's affair here.
    export PORTCULLIS_STORE_TIMEOUT_MS=5000 PORTCULLIS_LOG=warn PORTCULLIS_LOG_FORMAT=text
    PORTCULLIS_LISTEN=127.0.0.1:0 start gateway "$binary" gateway serve --dev-tokens
    await gateway listens gateway || return 1
    PORTCULLIS_SLOTS=50 PORTCULLIS_HANDLER='*=builtin:echo' start processor "$binary" processor
    await processor listens processor
}

# What is not looked for: a body may be refused for bounds that only the policy has, an unknown method of a path is
# answered like an unknown path, and DELETE cancels a task, which can be read afterwards.
configure() {
    cat >"$work/schemathesis.toml" <<'TOML'
[checks]
positive_data_acceptance.enabled = false
unsupported_method.enabled = false
allow_header_conformance.enabled = false
use_after_free.enabled = false
# Documented ones: which of them an operation may answer is another check.
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 409, 413, 422, 429, 503]
TOML
}

# Fuzzes what the document of one listener says; `authorization` opens it.
fuzz() {
    local name=$1 base=$2 authorization=$3
    echo "-- $name: seed $seed"
    (cd -- "$work" && "$environment/bin/st" --config-file "$work/schemathesis.toml" --no-color \
        run "$base/openapi.json" --header "Authorization: $authorization" --seed "$seed" --max-time "$seconds" \
        --max-examples 40 --workers 1 --continue-on-failure --no-shrink --request-timeout 20 --warnings off \
        --generation-database none --suppress-health-check all)
}

token=portcullis-fuzz-admin-token-0123456789
binary=$target/debug/portcullis-loadtest
if [[ -z $built ]]; then
    cargo build --locked --quiet --package portcullis-loadtest --bin portcullis-loadtest
fi
ensure_redis
ensure_schemathesis
configure
start_cluster
status=0
fuzz public "http://$(address gateway public)" "Bearer dev:privileged:fuzz" || status=1
# Last: it changes the policy.
fuzz admin "http://$(address gateway admin)" "Bearer $token" || status=1
if [[ $status -ne 0 ]]; then
    echo "to have the same requests made again: deploy/fuzz-api.sh --seed $seed" >&2
fi
exit "$status"
