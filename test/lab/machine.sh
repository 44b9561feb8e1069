#!/bin/sh
# A machine of namespaces: machine.sh hold NAME HOSTNAME ROOT CHECKOUT BACKEND UPLINK DISK PROGRAM INIT WRITES
# DISK is a folder for persistent state, or nothing; PROGRAM is the calico-cnm that it has as a command, or
# nothing; INIT is `systemd`, or `none` for a first process that only waits; WRITES is how many writes a second its disk
# does, or nothing for one in memory, which is never waited for.
# It lives until its standard input ends, so that it goes with the process that started it, however that ends; with
# systemd also until it is halted or starts again. The exit status is 0 or tells how the first process ended by itself.
set -eu

# The machine's processes are gone with its first one, and with them its mounts, links and rules; the
# control groups are the one thing that no namespace owns.
hold() {
  trap '' INT TERM HUP
  exec 3<&0
  (
    own=
    if [ "$9" = systemd ]; then
      enter_control_group "$1"
      own=--cgroup
    fi
    # shellcheck disable=SC2086
    exec setpriv --pdeathsig KILL -- \
      unshare --net --mount --uts --ipc --pid $own --fork --kill-child -- "$0" boot "$@"
  ) 3<&- &
  machine=$!
  plugins=$(mktemp)
  {
    read -r _ || true
    # Docker has the control groups of its plugins beside those that it is told to have below its own.
    ls "/proc/$(cat "/proc/$machine/task/$machine/children" | tr -d ' ')/root/var/lib/docker/plugins" >"$plugins" || true
    kill -KILL "$machine"
  } <&3 >/dev/null 2>&1 &
  watcher=$!
  # If the tests were killed, nothing reads the shell's own messages.
  trap '' PIPE
  status=0
  wait "$machine" || status=$?
  kill -KILL "$watcher" 2>/dev/null || true
  # By the watcher.
  [ "$status" -ne 137 ] || status=0
  for name in "$1" $(grep -xE '[0-9a-f]{64}' "$plugins" || true); do
    remove_control_group "$name" || status=1
  done
  rm -f "$plugins"
  exit "$status"
}

remove_control_group() {
  for group in "/sys/fs/cgroup/$1" /sys/fs/cgroup/*/"$1"; do
    [ -d "$group" ] || continue
    attempts=50
    until find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null && [ ! -d "$group" ]; do
      attempts=$((attempts - 1))
      [ "$attempts" -gt 0 ] || { echo "control group $group cannot be removed" >&2; return 1; }
      sleep 0.1
    done
  done
}

# systemd has a tree of control groups of its own, of version 2. Controllers that version 1 has taken are missing in
# it; what they limit is not what is tested.
enter_control_group() {
  for tree in /sys/fs/cgroup /sys/fs/cgroup/unified; do
    [ -e "$tree/cgroup.controllers" ] || continue
    mkdir "$tree/$1"
    echo 0 >"$tree/$1/cgroup.procs"
    return
  done
  echo 'systemd needs control groups of version 2, and they are not mounted' >&2
  exit 1
}

# The file has no name any more and the loop device ends with its last mount, so both go with the machine. The limit goes
# with the control group, in which the machine's programs are put as they start.
mount_slow_disk() {
  [ -d /sys/fs/cgroup/blkio ] || {
    echo 'a slow disk needs the blkio controller of control groups version 1' >&2
    exit 1
  }
  file=$(mktemp /var/tmp/calico-lab-disk.XXXXXX)
  mkdir /mnt/disk
  mounted=no
  if truncate -s 8G "$file" && mkfs.ext4 -q -F "$file" && mount -o loop "$file" /mnt/disk; then mounted=yes; fi
  rm "$file"
  [ "$mounted" = yes ]
  mkdir -p "/sys/fs/cgroup/blkio/$name"
  echo "$(mountpoint -d /mnt/disk) $writes" >"/sys/fs/cgroup/blkio/$name/blkio.throttle.write_iops_device"
}

mount_root() {
  mount --make-rprivate /
  mount -t tmpfs -o mode=755 machine /mnt
  layer=${disk:-/mnt}
  data=$disk
  if [ -n "$writes" ]; then
    mount_slow_disk
    data=/mnt/disk
  fi
  mkdir -p "$layer/upper" "$layer/work" /mnt/root
  mount -t overlay -o "lowerdir=$root,upperdir=$layer/upper,workdir=$layer/work" machine /mnt/root
  cd /mnt/root
  mount_kernel
  mount_devices
  # Docker's overlay2 cannot lie on an overlay, and what lives in memory leaves nothing on the disk.
  for folder in run tmp dev/shm var/lib/docker var/lib/containerd var/lib/calico; do
    mkdir -p "$folder"
    case $data:$folder in
    /*:var/lib/*)
      mkdir -p "$data/$folder"
      mount --bind "$data/$folder" "$folder"
      ;;
    *) mount -t tmpfs -o mode=755 machine "$folder" ;;
    esac
  done
  chmod 1777 tmp dev/shm
  mkdir -p "./$checkout" run/lock
  mount --bind "$checkout" "./$checkout"
  mount -o remount,ro,bind "./$checkout"
  pivot_root . mnt
  umount -l /mnt
  cd /
}

# systemd writes to what it finds; what its machine shares with those beside it, it cannot change. In other machines
# nothing is covered, as else the kernel lets no user namespace mount a /proc of its own.
mount_kernel() {
  mount -t proc proc proc
  mount -t sysfs sysfs sys
  if [ "$init" != systemd ]; then
    mount --rbind /sys/fs/cgroup sys/fs/cgroup
    return
  fi
  # By which the journal tells one boot from the next.
  cat /proc/sys/kernel/random/uuid >/mnt/boot_id
  mount --bind /mnt/boot_id proc/sys/kernel/random/boot_id
  mount --bind proc/sys/net proc/sys/net
  mount --rbind proc/sys proc/sys
  mount -o remount,ro,bind proc/sys
  mount -o remount,ro,bind sys
  mount -t cgroup2 cgroup sys/fs/cgroup
}

mount_devices() {
  if [ "$init" != systemd ]; then
    mount --rbind /dev dev
    return
  fi
  mount -t tmpfs -o mode=755 machine dev
  for device in null zero full random urandom tty; do cp -a "/dev/$device" dev; done
  mkdir dev/pts
  mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
  ln -s pts/ptmx dev/ptmx
  ln -s /proc/self/fd dev/fd
  for stream in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${stream%:*}" "dev/${stream#*:}"; done
}

configure() {
  hostname "$hostname"
  echo "$hostname" >/etc/hostname
  printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n' "$hostname" >/etc/hosts
  # An address for documentation: a look-up outside fails at once instead of asking the real network.
  echo 'nameserver 192.0.2.53' >/etc/resolv.conf
  for tool in iptables ip6tables; do
    [ -e /usr/sbin/iptables-nft ] || break
    for suffix in '' -save -restore; do
      ln -sf "/usr/sbin/$tool-$backend$suffix" "/etc/alternatives/$tool$suffix"
    done
  done
  if [ -n "$program" ]; then
    printf '#!/bin/sh\nexec "%s/node_modules/.bin/node" --max-semi-space-size=2 --optimize-for-size "%s" "$@"\n' \
      "$checkout" "$program" >/usr/local/bin/calico-cnm
    chmod 755 /usr/local/bin/calico-cnm
  fi
  # A bare root has no ip; whoever starts the machine then brings lo up from outside.
  if command -v ip >/dev/null; then ip link set lo up; fi
}

# A router that knows the uplink and an address beyond it, and no way to any container.
connect_uplink() {
  ip netns add router
  ip link add uplink type veth peer name downlink netns router
  ip address add 203.0.113.2/24 dev uplink
  ip -6 address add 2001:db8:113::2/64 dev uplink nodad
  ip link set uplink up
  ip -n router link set lo up
  ip -n router address add 198.51.100.1/32 dev lo
  ip -n router -6 address add 2001:db8:100::1/128 dev lo nodad
  ip -n router address add 203.0.113.1/24 dev downlink
  ip -n router -6 address add 2001:db8:113::1/64 dev downlink nodad
  ip -n router link set downlink up
  ip route add default via 203.0.113.1
  ip -6 route add default via 2001:db8:113::1
}

# At its first boot: of what the root has, Docker alone is enabled.
configure_systemd() {
  mount --make-rshared /
  [ ! -s /etc/machine-id ] || return 0
  tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
  systemctl --root=/ --quiet disable firewalld NetworkManager radvd ufw
}

boot() {
  name=$1 hostname=$2 root=$3 checkout=$4 backend=$5 uplink=$6 disk=$7 program=$8 init=$9 writes=${10}
  # Read from the outer /proc, which tells the outer process id.
  read -r pid _ </proc/self/stat
  mount_root
  configure
  [ "$uplink" = no ] || connect_uplink
  [ "$init" != systemd ] || configure_systemd
  echo "ready $pid"
  [ "$init" != systemd ] || exec env -i container=lab /lib/systemd/systemd </dev/null >/dev/null 2>&1
  # With SIGCHLD ignored the kernel reaps what Docker's shims leave to the first process.
  trap '' CHLD
  exec sleep infinity >/dev/null 2>&1
}

mode=$1
shift
"$mode" "$@"
