#!/bin/sh
# A machine of namespaces: machine.sh hold NAME ROOT CHECKOUT BACKEND UPLINK DISK PROGRAM
# DISK is a folder for what outlives the machine, or nothing; PROGRAM is the calico-cnm that it has as a command.
# It lives until its standard input ends, so that it goes with the process that started it, however that ends.
set -eu

# The machine's processes are gone with its first one, and with them its mounts, links and rules; the
# control groups of its containers are the one thing that no namespace owns.
hold() {
  trap '' INT TERM HUP
  status=0
  unshare --net --mount --uts --ipc --pid --fork --kill-child -- "$0" boot "$@" || status=$?
  for group in "/sys/fs/cgroup/$1" /sys/fs/cgroup/*/"$1"; do
    [ -d "$group" ] || continue
    attempts=50
    until find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null && [ ! -d "$group" ]; do
      attempts=$((attempts - 1))
      [ "$attempts" -gt 0 ] || { echo "control group $group cannot be removed" >&2; exit 1; }
      sleep 0.1
    done
  done
  exit "$status"
}

mount_root() {
  mount --make-rprivate /
  mount -t tmpfs -o mode=755 machine /mnt
  mkdir /mnt/upper /mnt/work /mnt/root
  mount -t overlay -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" machine /mnt/root
  cd /mnt/root
  mount -t proc proc proc
  mount -t sysfs sysfs sys
  mount --rbind /sys/fs/cgroup sys/fs/cgroup
  mount --rbind /dev dev
  # Docker's overlay2 cannot lie on an overlay, and what lives in memory leaves nothing on the disk.
  for folder in run tmp dev/shm var/lib/docker var/lib/containerd var/lib/calico; do
    mkdir -p "$folder"
    case $disk:$folder in
    /*:var/lib/*)
      mkdir -p "$disk/$folder"
      mount --bind "$disk/$folder" "$folder"
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

configure() {
  hostname "$name"
  echo "$name" >/etc/hostname
  printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n' "$name" >/etc/hosts
  # An address for documentation: a look-up outside fails at once instead of asking the real network.
  echo 'nameserver 192.0.2.53' >/etc/resolv.conf
  for tool in iptables ip6tables; do
    [ -e /usr/sbin/iptables-nft ] || break
    for suffix in '' -save -restore; do
      ln -sf "/usr/sbin/$tool-$backend$suffix" "/etc/alternatives/$tool$suffix"
    done
  done
  printf '#!/bin/sh\nexec "%s/node_modules/.bin/node" --max-semi-space-size=4 "%s" "$@"\n' \
    "$checkout" "$program" >/usr/local/bin/calico-cnm
  chmod 755 /usr/local/bin/calico-cnm
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

boot() {
  name=$1 root=$2 checkout=$3 backend=$4 uplink=$5 disk=$6 program=$7
  # Read from the outer /proc, which tells the outer process id.
  read -r pid _ </proc/self/stat
  mount_root
  configure
  [ "$uplink" = no ] || connect_uplink
  echo "ready $pid"
  # With SIGCHLD ignored the kernel reaps what Docker's shims leave to the first process.
  trap '' CHLD
  exec cat >/dev/null 2>&1
}

mode=$1
shift
"$mode" "$@"
