# Services for the tests, sourced by .ci/run: start_services, stop_services.
#
# Where this is root on a machine with apt, PostgreSQL and Chromium are installed if absent, and a
# throw-away PostgreSQL listens on a free loopback port as user postgres. A machine that offers
# less goes on with a visible line; the tests that need the service then skip and name the variable.

_pg_folder=""
_pg_bin=""

_say() { printf 'services: %s\n' "$*" >&2; }

_find_pg_bin() {
    local folder
    for folder in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV); do
        if [ -x "$folder/initdb" ] && [ -x "$folder/pg_ctl" ]; then
            printf '%s\n' "$folder"
            return 0
        fi
    done
    return 1
}

# apt_install PACKAGE: quiet, never fatal; `apt-get update` runs once, and only when it is needed.
_apt_updated=""
_apt_install() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        _say "$1 is absent and cannot be installed here (needs root and apt)"
        return 1
    fi
    if [ -z "$_apt_updated" ]; then
        timeout 180 apt-get update -qq >/dev/null 2>&1 || _say "apt-get update failed; trying anyway"
        _apt_updated=yes
    fi
    if DEBIAN_FRONTEND=noninteractive timeout 600 \
        apt-get install -y -qq --no-install-recommends "$1" >/dev/null 2>&1; then
        _say "installed $1"
    else
        _say "could not install $1"
        return 1
    fi
}

_free_port() {
    "${PYTHON:-python3}" -c \
        'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

_as_postgres() { (cd / && runuser -u postgres -- "$@"); }

start_postgres() {
    if [ -n "${INTRAMODAL_TEST_DB_URL:-}" ]; then
        _say "PostgreSQL: using the one named by INTRAMODAL_TEST_DB_URL"
        return 0
    fi
    if [ "$(id -u)" -ne 0 ] || ! command -v runuser >/dev/null; then
        _say "PostgreSQL: NOT started (needs root); its tests will skip"
        return 0
    fi
    _find_pg_bin >/dev/null || _apt_install postgresql || true
    if ! _pg_bin=$(_find_pg_bin); then
        _say "PostgreSQL: NOT started (no initdb); its tests will skip"
        return 0
    fi
    local port
    port=$(_free_port) || { _say "PostgreSQL: NOT started (no free port)"; return 0; }
    _pg_folder=$(mktemp -d)
    chown postgres "$_pg_folder"
    if ! _as_postgres "$_pg_bin/initdb" -D "$_pg_folder/data" -U intramodal --auth=trust \
        --encoding=UTF8 --locale=C --no-sync >"$_pg_folder/initdb.log" 2>&1 ||
        ! _as_postgres "$_pg_bin/pg_ctl" -D "$_pg_folder/data" -l "$_pg_folder/data/log" -w -t 60 \
            -o "-c listen_addresses=127.0.0.1 -p $port -k $_pg_folder -c fsync=off" start \
            >"$_pg_folder/start.log" 2>&1; then
        _say "PostgreSQL: NOT started; its tests will skip; last lines of its logs:"
        tail -n 5 "$_pg_folder"/*.log "$_pg_folder/data/log" >&2 2>/dev/null || true
        stop_services
        return 0
    fi
    export INTRAMODAL_TEST_DB_URL="postgresql+psycopg://intramodal@127.0.0.1:$port/postgres"
    _say "PostgreSQL: $("$_pg_bin/postgres" --version) on 127.0.0.1:$port, data in $_pg_folder"
}

find_chromium() {
    local name
    for name in chromium chromium-browser google-chrome; do
        if command -v "$name" >/dev/null; then
            _say "browser: $(command -v "$name")"
            return 0
        fi
    done
    if _apt_install chromium; then
        _say "browser: $(command -v chromium)"
    else
        _say "browser: none; its tests will skip"
    fi
    return 0
}

start_services() {
    start_postgres
    find_chromium
}

# Stops only what start_services started; safe to call twice, and as a trap.
stop_services() {
    if [ -z "$_pg_folder" ]; then
        return 0
    fi
    if [ -d "$_pg_folder/data" ]; then
        _as_postgres "$_pg_bin/pg_ctl" -D "$_pg_folder/data" -m immediate -w -t 30 stop \
            >/dev/null 2>&1 || true
    fi
    rm -rf "$_pg_folder"
    _pg_folder=""
    _say "PostgreSQL: stopped"
}
