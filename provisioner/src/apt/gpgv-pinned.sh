#!/bin/sh
# Written by toril. This is gpgv as apt calls it, with one difference: a good signature by a key that has expired since
# counts for an InRelease file whose SHA-256 stands in /etc/apt/toril-pins.d. All else is as gpgv says.
set -u

fd='' previous='' data=''
for word; do
    [ "$previous" != --status-fd ] || fd=$word
    previous=$word
    data=$word
done
case $fd in
'' | *[!0-9]*) exec gpgv "$@" ;;
esac
place=$(mktemp -d) || exec gpgv "$@"
trap 'rm -rf "$place"' EXIT

# Whether what apt wants to be verified is the text of a pinned file. Apt has taken the file apart by now.
is_pinned() {
    for file in /var/lib/apt/lists/partial/*InRelease /var/lib/apt/lists/*InRelease; do
        cp "$file" "$place/file" 2>/dev/null || continue
        sum=$(sha256sum <"$place/file" | cut -c -64)
        grep -hqsxF -- "$sum" /etc/apt/toril-pins.d/* || continue
        text=$(sed -e '1,/^$/d' -e '/^-----BEGIN PGP SIGNATURE-----$/,$d' -e 's/^- //' "$place/file")
        [ "$text" != "$(cat "$data")" ] || return 0
    done
    return 1
}

eval "gpgv \"\$@\" $fd>\"\$place/status\""
code=$?
if grep -q '^\[GNUPG:\] EXPKEYSIG ' "$place/status" && is_pinned; then
    sed -i -e '/^\[GNUPG:\] KEYEXPIRED /d' -e 's/^\[GNUPG:\] EXPKEYSIG /[GNUPG:] GOODSIG /' "$place/status"
fi
eval "cat \"\$place/status\" >&$fd"
exit $code
