# Removes the package: with dpkg when the root is /, otherwise exactly what was unpacked below the
# root. What it needs stays, as it may be needed elsewhere. Exit codes as install.sh. Idempotent.
here=${MUSTER_CONTENT:-$(dirname -- "$0")}
. "$here/common.sh"

remove_with_dpkg() {
    case $(dpkg_state "$name" "$architecture") in
    '' | *' not-installed '* | *' config-files '*)
        say "nothing to remove: dpkg does not have $name installed"
        ;;
    *)
        run_dpkg --remove "$(dpkg_name "$name" "$architecture")" ||
            fail 1 "dpkg cannot remove $name"
        say "removed with dpkg: $name"
        ;;
    esac
}

remove_below_root() {
    enter_root "$here/lists/folders"
    while IFS= read -r line; do
        rm -f -- "./${line#*  }" || fail 1 "$root/${line#*  } cannot be removed"
    done <"$here/lists/files.sha256"
    while IFS= read -r line; do
        path=${line#*  }
        if [ -f "./$path" ] && ! is_file "${line%%  *}" "$path"; then
            say "kept configuration file $path: it was changed"
        else
            rm -f -- "./$path" || fail 1 "$root/$path cannot be removed"
        fi
    done <"$here/lists/conffiles.sha256"
    while IFS=$tab read -r path target; do
        [ ! -L "./$path" ] || [ "$(readlink "./$path")" != "$target" ] || rm -f -- "./$path" ||
            fail 1 "$root/$path cannot be removed"
    done <"$here/lists/links"
    # Inner folders stand first. One that is not empty belongs to others too.
    while IFS= read -r path; do
        rmdir -- "./$path" 2>/dev/null
    done <"$here/lists/folders"
    say "removed below $root: $name $version"
}

if [ "$root" = / ]; then
    remove_with_dpkg
else
    remove_below_root
fi
