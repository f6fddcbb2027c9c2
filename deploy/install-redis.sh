# shellcheck shell=bash
# Finds a Redis server, or installs one. Sourced by quickstart.sh and test.sh; defines functions and does nothing else.
#
# Only the executable is wanted: the scripts start servers of their own on free ports, so the service that a package
# brings along is switched off again, and one that was there before is left alone.

# The name of the server executable, redis-server or valkey-server; fails if there is neither.
redis_executable() {
    command -v redis-server || command -v valkey-server
}

# Whether this server knows the commands that the scripts use: Redis 6.2 and every Valkey do.
is_recent() {
    local major minor
    read -r major minor < <("$1" --version | sed -nE 's/.* v=([0-9]+)\.([0-9]+)\..*/\1 \2/p')
    ((${major:-0} > 6 || (${major:-0} == 6 && ${minor:-0} >= 2)))
}

# Runs a command as root: at once if we are, else through sudo, but only if it asks nothing.
as_root() {
    if [[ $(id -u) -eq 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# Debian and Ubuntu.
install_redis_with_apt() {
    # A mirror that is down spoils the update, not necessarily the installation.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 update || true
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 \
        install --no-install-recommends redis-server || return 1
    if [[ -d /run/systemd/system ]]; then
        as_root systemctl disable --now redis-server || true
    fi
}

# Installs Redis, or Valkey where that is what the system has, through whichever package manager there is.
install_redis() {
    if command -v apt-get >/dev/null; then
        install_redis_with_apt
    elif command -v dnf >/dev/null; then
        as_root dnf -q -y install redis || as_root dnf -q -y install valkey
    elif command -v apk >/dev/null; then
        as_root apk add --quiet redis || as_root apk add --quiet valkey
    elif command -v brew >/dev/null; then
        # Homebrew refuses to run as root.
        brew install --quiet redis
    else
        return 1
    fi
}

# Makes sure that redis-server or valkey-server can be started; says what to install if it cannot be done here.
ensure_redis() {
    local server
    if ! redis_executable >/dev/null; then
        echo "redis-server is not installed; installing it" >&2
        install_redis >&2 || true
        hash -r
    fi
    if server=$(redis_executable); then
        if is_recent "$server"; then
            return 0
        fi
        echo "$server is too old: $("$server" --version)" >&2
    fi
    cat >&2 <<'MESSAGE'
There is no usable Redis. Install Redis 6.2 or later, or Valkey, so that `redis-server` or `valkey-server` is on the
PATH, and run this again:
    Debian, Ubuntu    apt-get install redis-server
    Fedora, RHEL      dnf install redis      (or valkey)
    Alpine            apk add redis          (or valkey)
    macOS             brew install redis
    elsewhere         https://redis.io/docs/latest/operate/oss_and_stack/install/
MESSAGE
    return 1
}
