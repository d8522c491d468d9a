#!/bin/busybox sh
# The guest's first process: makes the host's file system, read-only, with a
# layer in memory over it, the root, and leaves the rest to go.sh.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev

fail() {
    echo "xtask: the guest cannot start: $*" > /dev/console
    $b sleep 1
    echo b > /proc/sysrq-trigger
    $b sleep 99
}

while read -r module; do
    $b insmod "/mod/$module" || fail "insmod $module"
done < /mod/order
. /places

$b mount -t 9p -o ro,cache=loose,trans=virtio,version=9p2000.L,msize=512000 host /host ||
    fail "mount the host's file system"
$b mount -t tmpfs -o mode=755 over /over
$b mkdir /over/upper /over/work
$b mount -t overlay -o lowerdir=/host,upperdir=/over/upper,workdir=/over/work root /new ||
    fail "mount the layer over it"

$b mount -t proc proc /new/proc
$b mount -t sysfs sys /new/sys
$b mount --move /dev /new/dev
$b mkdir -p /new/dev/pts /new/dev/shm
$b mount -t devpts -o ptmxmode=666 devpts /new/dev/pts
$b mount -t tmpfs shm /new/dev/shm
$b mount -t tmpfs -o mode=755 run /new/run
$b ln -sf /proc/self/fd /new/dev/fd
# What a running system has; a kernel may lack one.
for mount in "tracefs kernel/tracing" "debugfs kernel/debug" "securityfs kernel/security" \
    "bpf fs/bpf" "cgroup2 fs/cgroup"; do
    $b mount -t ${mount% *} ${mount% *} /new/sys/${mount#* } 2> /dev/null
done
$b mkdir -p "/new/lib/modules/$release"
$b mount --bind "/new$modules" "/new/lib/modules/$release" || fail "mount the modules"
$b mkdir -p /new/run/xtask
$b cp /bin/busybox /go /command /new/run/xtask/
$b umount /proc /sys
exec $b switch_root /new /run/xtask/go < /dev/null
