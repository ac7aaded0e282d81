#!/bin/sh
# Exit 0: present, 1: absent, anything else: cannot tell.
cmp -s greeting.sh "${MUSTER_ROOT%/}/usr/local/bin/muster-hello"
case $? in 0) exit 0 ;; 1) exit 1 ;; *) [ -e "${MUSTER_ROOT%/}/usr/local/bin/muster-hello" ] && exit 3; exit 1 ;; esac
