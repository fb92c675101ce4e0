#!/bin/sh
# Boots systemd as process 1 of namespaces of its own, on a copy of this machine's files that is gone
# afterwards: `machine.sh boot FOLDER`, run by tests/machine.py inside `unshare`. FOLDER/root is /.
#
# `machine.sh probe FOLDER`: whether this machine lets us.
set -eu
folder=$2
mount -t tmpfs -o mode=755 tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" overlay "$folder/root"
root=$folder/root
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --make-rslave "$root/sys"
umount -l "$root/sys/fs/cgroup" 2>/dev/null || true
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
[ "$1" = boot ] || exit 0
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s pts/ptmx "$root/dev/ptmx"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
for place in dev/shm run tmp; do mount -t tmpfs tmpfs "$root/$place"; done
chmod 1777 "$root/tmp" "$root/dev/shm"

rm -rf "$root/etc/systemd/system" "$root/opt/service-tracking" "$root/etc/service-tracking"
mkdir -p "$root/etc/systemd/system"
for unit in systemd-udevd systemd-udev-trigger systemd-logind dbus getty.target systemd-timesyncd \
  systemd-networkd systemd-resolved console-getty dev-hugepages.mount dev-mqueue.mount \
  sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount sys-kernel-config.mount \
  systemd-remount-fs systemd-modules-load systemd-sysctl systemd-tmpfiles-setup-dev cron apt-daily.timer \
  systemd-firstboot systemd-machine-id-commit e2scrub_reap systemd-update-utmp; do
  case $unit in *.*) ;; *) unit=$unit.service ;; esac
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=sockets.target\n' \
  >"$root/etc/systemd/system/machine.target"
: >"$root/etc/fstab"
echo machine >/proc/sys/kernel/hostname
mkdir "$root/old"
cd "$root"
pivot_root . old
umount -l /old
# Else directories of credentials stay empty.
mount --make-rshared /
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --unit=machine.target --log-target=journal
