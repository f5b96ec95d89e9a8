#!/bin/sh
# Puts the hub on this server as a service: systemd/install.sh [--instances 4]. Run it again to upgrade: what is there
# already is left alone, settings always. docs/deploy/systemd.md tells what it does and what comes before and after.
set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd)
source=$(dirname "$here")
prefix=/opt/whatsapp-hub
etc=/etc/whatsapp-hub
units=/etc/systemd/system
secrets="mongodb_uri encryption_secret encryption_secrets_old whatsapp_app_secret whatsapp_verify_token whatsapp_token
    admin_token ai_api_key redis_url alert_webhook_url"
instances=1 first_port=8001 python='' wheels='' start=yes rollback=no

usage() {
    cat <<EOF
Usage: systemd/install.sh [OPTION...]
  --instances N     so many processes, each at a port of its own on 127.0.0.1; with one, the port is 8000
  --first-port P    the first of these ports (default $first_port)
  --python PATH     the interpreter to use, 3.11 or newer
  --wheels FOLDER   take packages from this folder and nothing from the network
  --no-start        put everything in place, start nothing
  --rollback        go back to the release from before the last upgrade
EOF
}

say() {
    printf '%s\n' "$*"
}

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

read_options() {
    while [ $# -gt 0 ]; do
        case $1 in
        --instances) instances=${2:?} && shift ;;
        --first-port) first_port=${2:?} && shift ;;
        --python) python=${2:?} && shift ;;
        --wheels) wheels=$(cd "${2:?}" && pwd) && shift ;;
        --no-start) start=no ;;
        --rollback) rollback=yes ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
        esac
        shift
    done
    case $instances$first_port in
    *[!0-9]* | '') fail "--instances and --first-port take numbers." ;;
    esac
    [ "$instances" -ge 1 ] || fail "--instances takes 1 or more."
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for candidate in ${python:-python3 python3.13 python3.12 python3.11}; do
        if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
            python=$(command -v "$candidate")
            "$python" -c 'import ensurepip, venv' 2>/dev/null && return
            fail "$python cannot make environments. Debian, Ubuntu: apt install $("$python" -c \
                'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
        fi
    done
    fail "Python 3.11 or newer is needed${python:+, and $python is none}. Ubuntu 22.04 comes with 3.10; to have one beside it:" \
        "  add-apt-repository ppa:deadsnakes/ppa && apt install python3.12-venv" \
        "and start again; or name an interpreter with --python."
}

# Name the release by what is in it, so that the same source is installed once.
name_release() {
    version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$source/whatsapp_hub/__init__.py")
    content=$(cd "$source" && find whatsapp_hub requirements/server.txt pyproject.toml -type f ! -name '*.pyc' |
        LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c1-8)
    release=$prefix/releases/$version-$content-py$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
}

install_release() {
    if [ -e "$release/complete" ]; then
        say "release      $release is there"
        return
    fi
    say "release      $release: installing, a minute or so"
    rm -rf "$release"
    mkdir -p "$release"
    "$python" -m venv "$release"
    build=$(mktemp -d)
    trap 'rm -rf "$build"' EXIT
    (cd "$source" && cp -r whatsapp_hub pyproject.toml README.md LICENSE "$build")
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
    [ -z "$wheels" ] || export PIP_NO_INDEX=1 PIP_FIND_LINKS="$wheels"
    "$release/bin/python" -m pip install -q --no-deps --require-hashes -r "$source/requirements/server.txt"
    "$release/bin/python" -m pip install -q --no-deps "$build"
    "$release/bin/whatsapp-hub" --version >/dev/null
    touch "$release/complete"
}

# The old one stays where it is until all hubs have left it, and to go back to.
switch_to() {
    now=$(readlink "$prefix/current" || true)
    if [ "$now" = "$1" ]; then
        say "current      is this release already"
        return
    fi
    [ -z "$now" ] || ln -sfn "$now" "$prefix/previous"
    ln -sfn "$1" "$prefix/current.new"
    mv -T "$prefix/current.new" "$prefix/current"
    say "current      $1${now:+ (before: $now)}"
}

write_settings() {
    mkdir -p "$etc"
    install -d -m 0700 "$etc/credentials"
    for name in $secrets; do
        file=$etc/credentials/$name
        [ -e "$file" ] || (umask 077 && : >"$file" && say "secret       $file (empty)")
        chmod 0600 "$file"
    done
    if [ -e "$etc/.env" ]; then
        say "settings     $etc/.env is there and stays as it is"
        return
    fi
    {
        say "# Anybody on this server can read this file: secrets go into $etc/credentials."
        without_secrets <"$source/.env.example"
    } >"$etc/.env"
    say "settings     $etc/.env (from .env.example)"
}

# Leave out the secrets, each with the comment before it.
without_secrets() {
    names=$(echo $secrets | tr 'a-z ' 'A-Z|')
    awk -v secret="^#?($names)=" '
        $0 ~ secret { kept = ""; next }
        { if (kept != "") print kept; kept = $0; if (kept == "") { print ""; } }
        END { if (kept != "") print kept }'
}

write_command() {
    cat >/usr/local/bin/whatsapp-hub.new <<EOF
#!/bin/sh
# The command line with the settings and secrets of the service; for root.
cd $etc && CREDENTIALS_DIRECTORY=$etc/credentials exec $prefix/current/bin/whatsapp-hub "\$@"
EOF
    chmod 0755 /usr/local/bin/whatsapp-hub.new
    mv /usr/local/bin/whatsapp-hub.new /usr/local/bin/whatsapp-hub
    say "command      whatsapp-hub (try: whatsapp-hub doctor)"
}

install_units() {
    for unit in service socket; do
        install -m 0644 "$here/whatsapp-hub.$unit" "$here/whatsapp-hub@.$unit" "$units"
    done
    install -m 0644 "$here/whatsapp-hub.target" "$units"
    systemctl daemon-reload
    say "units        $units/whatsapp-hub*"
}

# The instances that are wanted, one a line.
wanted() {
    if [ "$instances" -eq 1 ]; then
        say whatsapp-hub
    else
        port=$first_port
        while [ "$port" -lt $((first_port + instances)) ]; do
            say "whatsapp-hub@$port"
            port=$((port + 1))
        done
    fi
}

enabled() {
    find "$units/whatsapp-hub.target.wants" -name '*.service' 2>/dev/null | sed 's|.*/||; s|\.service$||' | sort
}

enable_wanted() {
    for name in $(enabled); do
        if ! wanted | grep -qx "$name"; then
            systemctl disable --now "$name.socket" "$name.service" 2>/dev/null
            say "disabled     $name"
        fi
    done
    systemctl enable -q whatsapp-hub.target
    for name in $(wanted); do
        systemctl enable -q "$name.socket" "$name.service"
    done
    say "enabled      $(wanted | tr '\n' ' ')"
}

# One after the other, each only when the one before takes webhooks; the sockets stay open.
restart_enabled() {
    for name in $(enabled); do
        systemctl start "$name.socket"
        if systemctl restart "$name.service"; then
            say "runs         $name"
        else
            fail "$name does not start. See: journalctl -u $name -n 20 (wrong settings: whatsapp-hub doctor)"
        fi
    done
    systemctl start whatsapp-hub.target
}

settings_are_missing() {
    [ ! -s "$etc/credentials/encryption_secret" ]
}

main() {
    read_options "$@"
    [ "$(id -u)" -eq 0 ] || fail "This has to be run as root: sudo systemd/install.sh"
    if [ "$rollback" = yes ]; then
        [ -e "$prefix/previous" ] || fail "There is no release from before."
        switch_to "$(readlink "$prefix/previous")"
        restart_enabled
        return
    fi
    find_python
    say "python       $python ($("$python" -V))"
    name_release
    install_release
    switch_to "$release"
    write_settings
    write_command
    install_units
    enable_wanted
    if [ "$start" = no ]; then
        say "not started  as you asked for"
    elif settings_are_missing; then
        say "not started  write the settings first: $etc/.env and the files in $etc/credentials; then start me again"
    else
        restart_enabled
    fi
}

main "$@"
