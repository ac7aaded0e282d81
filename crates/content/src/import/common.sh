# What install.sh, remove.sh and detect.sh share. They set `here`, the folder of the content.
# POSIX sh. Says on standard output what was done and how, on standard error what went wrong.
set -u
here=$(cd -- "$here" && pwd) || exit 2
root=${MUSTER_ROOT:-/}
# dpkg demands ldconfig and start-stop-daemon, which lie in sbin.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH
tab=$(printf '\t')
read -r name architecture version file rest <"$here/lists/package"

say() { printf '%s\n' "$*"; }

# fail CODE TEXT
fail() {
    code=$1
    shift
    printf '%s\n' "$*" >&2
    exit "$code"
}

# The package as dpkg tells it from that of another architecture.
# dpkg_name NAME ARCHITECTURE
dpkg_name() {
    case $2 in
    all) printf '%s' "$1" ;;
    *) printf '%s' "$1:$2" ;;
    esac
}

# What dpkg says of a package, like `install ok installed 1.0`; fails as dpkg-query does.
# dpkg_state NAME ARCHITECTURE
dpkg_state() {
    LC_ALL=C.UTF-8 dpkg-query -W -f '${Status} ${Version}' "$(dpkg_name "$1" "$2")" 2>/dev/null
}

# Runs dpkg without questions. Ends the script with 75 (EX_TEMPFAIL) when somebody else holds its
# lock: nothing was done, the same again later may succeed. Otherwise returns what dpkg did. Its
# complaints go through a file, because a service that it starts may keep a pipe open for ever.
run_dpkg() {
    command -v dpkg >/dev/null 2>&1 || fail 1 "dpkg is not on this machine"
    errors=$(mktemp) || fail 1 "no temporary file can be made"
    trap 'rm -f "$errors"' EXIT
    trap 'exit 143' TERM INT HUP
    DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C.UTF-8 \
        dpkg --force-confdef --force-confold "$@" </dev/null 2>"$errors"
    code=$?
    cat "$errors" >&2
    if [ "$code" != 0 ] && grep -q 'locked by another process' "$errors"; then
        fail 75 "the package manager's lock is held; nothing was done"
    fi
    rm -f "$errors"
    return "$code"
}

# Goes to the root. What is unpacked or removed there must not pass through a link to elsewhere, or
# replace one: a root that has such links (/lib to /usr/lib) has a package manager that knows them.
# enter_root LIST_OF_FOLDERS
enter_root() {
    cd -- "$root" || fail 2 "the root $root is not a folder"
    while IFS= read -r path; do
        [ ! -L "./$path" ] || fail 1 "$root/$path is a link, the package needs a folder there"
    done <"$1"
}

# is_file DIGEST PATH
is_file() { [ "$(sha256sum 2>/dev/null <"./$2")" = "$1  -" ]; }
