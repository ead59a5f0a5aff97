#!/bin/sh
# end_masters.sh FOLDER: ends the connections that Ansible keeps open behind sockets in FOLDER, so that its next run connects as all others do.
for socket in "$1"/*; do
    [ ! -S "$socket" ] || ssh -O exit -o ControlPath="$socket" any 2>/dev/null
done
exit 0
