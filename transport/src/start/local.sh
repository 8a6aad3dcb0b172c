# The root part on the machine itself: the program is there.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; LC_ALL=C.UTF-8; export PATH LC_ALL;
cd /; umask 022; echo "toril-agent: ready"; exec @PROGRAM@ agent
