# shellcheck shell=bash
# Finds the proxies that the tests put in front of gateways, nginx, HAProxy and Caddy, or installs them. Sourced by
# test.sh after install-redis.sh, whose functions it uses; defines functions and does nothing else.
#
# Only the executables are wanted: the tests start processes of their own, so a service that a package brings along is
# switched off again, and one that was there before is left alone.

# What the tests start.
proxies=(nginx haproxy caddy)

# Debian puts them where only root looks.
proxy_executable() {
    PATH=$PATH:/usr/sbin:/usr/local/sbin command -v "$1"
}

# Debian and Ubuntu: the package, and the executable of the same name.
install_proxy_with_apt() {
    local name=$1 package=$2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 \
        install --no-install-recommends "$package" || return 1
    if [[ -d /run/systemd/system ]]; then
        as_root systemctl disable --now "$name" || true
    fi
}

# Installs one proxy through whichever package manager there is.
install_proxy() {
    local name=$1 package=$2
    if command -v apt-get >/dev/null; then
        install_proxy_with_apt "$name" "$package"
    elif command -v dnf >/dev/null; then
        as_root dnf -q -y install "$name"
    elif command -v apk >/dev/null; then
        as_root apk add --quiet "$name"
    elif command -v brew >/dev/null; then
        # Homebrew refuses to run as root.
        brew install --quiet "$name"
    else
        return 1
    fi
}

# Whether this release of Debian or Ubuntu has such a package: older ones have none of Caddy.
has_apt_package() {
    apt-cache policy "$1" 2>/dev/null | grep -q '^ *Candidate: *[^ (]'
}

# The tests that start a proxy fail without it, and say so: nothing is passed over in silence.
say_how_to_get() {
    local name=$1
    if [[ $name == caddy ]] && command -v apt-get >/dev/null && ! has_apt_package caddy; then
        echo "this release has no package of Caddy, which is one executable: get it from" >&2
        echo "https://caddyserver.com/download, put it into /usr/local/bin and run this again" >&2
    else
        echo "$name is not installed; install the package \`$name\` and run this again" >&2
    fi
}

# Makes sure that all of them can be started; says what to install if it cannot be done here.
ensure_proxies() {
    local missing=() name
    for name in "${proxies[@]}"; do
        proxy_executable "$name" >/dev/null || missing+=("$name")
    done
    if [[ ${#missing[@]} -gt 0 ]]; then
        echo "not installed: ${missing[*]}; installing" >&2
        if command -v apt-get >/dev/null; then
            # A mirror that is down spoils the update, not necessarily the installation.
            as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 update >&2 || true
        fi
        for name in "${missing[@]}"; do
            # The small nginx has all that the tests need.
            if [[ $name == nginx ]]; then
                install_proxy nginx nginx-light >&2 || true
            else
                install_proxy "$name" "$name" >&2 || true
            fi
        done
        hash -r
    fi
    for name in "${proxies[@]}"; do
        if ! proxy_executable "$name" >/dev/null; then
            say_how_to_get "$name"
            return 1
        fi
    done
}
