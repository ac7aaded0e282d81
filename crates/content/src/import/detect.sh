# Tells whether the package is there: exit 0 present, 1 absent, 2 cannot tell.
here=${MUSTER_CONTENT:-$(dirname -- "$0")}
. "$here/common.sh"

absent() {
    say "absent: $*"
    exit 1
}

if [ "$root" = / ]; then
    state=$(dpkg_state "$name" "$architecture")
    case $?:$state in
    0:*" ok installed $version") ;;
    0:*) absent "dpkg says $state" ;;
    1:*) absent "dpkg does not know $name" ;;
    *) fail 2 "dpkg-query does not work on this machine" ;;
    esac
    say "installed with dpkg: $name $version"
    exit 0
fi

cd -- "$root" || fail 2 "the root $root is not a folder"
if [ -s "$here/lists/files.sha256" ]; then
    sha256sum -c "$here/lists/files.sha256" >/dev/null 2>&1
    case $? in
    0) ;;
    1) absent "files of $name $version are missing or differ below $root" ;;
    *) fail 2 "sha256sum does not work on this machine" ;;
    esac
fi
while IFS=$tab read -r path target; do
    [ -L "./$path" ] && [ "$(readlink "./$path")" = "$target" ] ||
        absent "the link $path of $name $version is missing or differs below $root"
done <"$here/lists/links"
# Folders alone say little, unless the package has nothing else.
if [ ! -s "$here/lists/files.sha256" ] && [ ! -s "$here/lists/links" ]; then
    while IFS= read -r path; do
        [ -d "./$path" ] || absent "the folder $path of $name $version is missing below $root"
    done <"$here/lists/folders"
fi
say "unpacked below $root, detected by digests: $name $version"
