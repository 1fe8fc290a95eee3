#!/bin/sh
# Runs the shell command $2 in the tree $1, with the home $3, as an emulated board: namespaces of its own, in which
# foreign programs run by qemu. Needs no root. Processes are not in one of their own: what is started detached lives on
# when the connection ends, as it does on a board.
set -eu
PATH=$PATH:/usr/sbin:/sbin
export PATH
exec unshare --user --map-root-user --mount --uts /bin/sh -c '
  set -eu
  root=$1 command=$2
  mount -t tmpfs none /mnt
  mount -t binfmt_misc none /mnt
  cat /usr/lib/binfmt.d/qemu-aarch64.conf > /mnt/register
  mount --rbind /dev "$root/dev"
  mount --rbind /proc "$root/proc"
  mount --bind "$root/opt/fake/cpuinfo" "$root/proc/cpuinfo"
  hostname emulated || true
  exec chroot "$root" /usr/bin/env -i HOME="$3" PATH=/usr/bin:/bin:/usr/sbin PYTHONPATH=/opt/evit EVIT_EDGE_EMULATED=1 \
    QEMU_CPU=cortex-a76 /bin/sh -c "cd; $command"
' enter "$1" "$2" "$3"
