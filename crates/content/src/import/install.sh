# Installs the package: with dpkg when the root is /, otherwise by unpacking below the root.
# Exit 0 done, 75 the package manager's lock is held, anything else failed. Idempotent.
here=${MUSTER_CONTENT:-$(dirname -- "$0")}
. "$here/common.sh"

# The packages it needs are only added or raised, never lowered; the package itself is what was
# asked for. A package that was not there before and cannot be set up is taken back, so that it does
# not stand in the way of everything else that dpkg has to do.
install_with_dpkg() {
    before=$(dpkg_state "$name" "$architecture")
    set --
    while read -r need_name need_architecture need_version need_file rest; do
        state=$(dpkg_state "$need_name" "$need_architecture")
        case $state in
        *" ok installed "*)
            ! dpkg --compare-versions "${state##* }" ge "$need_version" || continue
            ;;
        esac
        set -- "$@" "$here/$need_file"
    done <"$here/lists/depends"
    if run_dpkg -i "$@" "$here/$file"; then
        say "installed with dpkg: $name $version"
        return
    fi
    case $before in
    *" ok installed "*) fail 1 "dpkg cannot install $name $version over what was there" ;;
    esac
    run_dpkg --remove "$(dpkg_name "$name" "$architecture")" || fail 1 "dpkg cannot take $name back"
    fail 1 "dpkg cannot install $name $version, it was taken back"
}

# The content of a package as a tar. dpkg-deb knows every compression; without it the archive is cut
# out of the file at the place noted when it was imported.
# data_of FILE START BYTES UNPACK
data_of() {
    if command -v dpkg-deb >/dev/null 2>&1; then
        dpkg-deb --fsys-tarfile "$here/$1"
    elif [ "$4" = cat ]; then
        tail -c "+$2" "$here/$1" | head -c "$3"
    else
        tail -c "+$2" "$here/$1" | head -c "$3" | "$4" -dc
    fi
}

# Configuration files that are there are the administrator's.
unpack_below_root() {
    enter_root "$here/lists/all-folders"
    keep=$(mktemp) || fail 1 "no temporary file can be made"
    trap 'rm -f "$keep"' EXIT
    trap 'exit 143' TERM INT HUP
    while IFS= read -r path; do
        if [ -e "./$path" ] || [ -L "./$path" ]; then
            printf './%s\n%s\n' "$path" "$path" >>"$keep"
            say "kept configuration file $path"
        fi
    done <"$here/lists/all-conffiles"
    # The package comes last: once detection finds it, everything it needs stands too.
    cat "$here/lists/depends" "$here/lists/package" >"$keep.order"
    trap 'rm -f "$keep" "$keep.order"' EXIT
    set -- -x -p -f - -C "$root"
    [ ! -s "$keep" ] || set -- --anchored --no-wildcards -X "$keep" "$@"
    while read -r deb_name deb_architecture deb_version deb_file start bytes unpack; do
        data_of "$deb_file" "$start" "$bytes" "$unpack" | tar "$@" ||
            fail 1 "$deb_file cannot be unpacked below $root"
    done <"$keep.order"
    say "unpacked below $root, detected by digests: $name $version"
}

if [ "$root" = / ]; then
    install_with_dpkg
else
    unpack_below_root
fi
