# Run by the login shell of the host as: exec /bin/sh -c 'THIS' toril 'ROOT PART'
# Rules for both scripts, kept by a unit test: no single quote, backslash or exclamation mark, and every
# line can be joined to the next with a space, so that any login shell passes them on as they are.
# Who it is run as, the shell reads by itself: a program that says it takes longer than the rest.
u=; while read -r k r e x; do case "$k" in Uid:) u=$e; break ;; esac; done 2>/dev/null </proc/self/status;
if [ "${u:-$(id -u)}" = 0 ]; then eval "$1"; exit; fi;
if command -v sudo >/dev/null 2>&1; then :; else echo "toril-agent: refused no-sudo"; exit 1; fi;
export LC_ALL=C; exec sudo @SUDO@ /bin/sh -c "$1"
