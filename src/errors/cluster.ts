import { entry } from './spec.ts';

/** Errors of clusters: members, certificates, tokens and joins. */
export const clusterErrors = {
  'cluster/already-in-cluster': entry(
    'state',
    (d: { part: string; state: string }) =>
      `this host already belongs to a cluster (${d.part}, ${d.state}); let other hosts join (on a member: calico-cnm cluster token create), or leave it first: calico-cnm cluster leave`,
  ),
  'cluster/host-runs': entry(
    'state',
    (d: { host: string }) =>
      `host ${d.host} runs; run calico-cnm cluster leave there, or stop its daemon; if it is lost, run this command again 90 s after its loss`,
  ),
  'cluster/has-networks': entry(
    'state',
    (d: { names: string }) =>
      `this host has Calico networks (${d.names}), whose containers would lose their addresses; remove their containers and docker network rm them before it leaves`,
  ),
  'cluster/lost': entry(
    'unavailable',
    (d: { hosts: string; isMember: boolean }) =>
      `the cluster does not respond (${d.hosts}): so many of its members are down that the others cannot decide; start them (on each: systemctl start calico-cnm-etcd), or, if they are lost for good, ${d.isMember ? 'make this host the only member, with a backup (calico-cnm cluster restore FILE) or without one (calico-cnm cluster restore --own-data), or ' : ''}let this host go on alone with its networks: calico-cnm cluster leave --force`,
  ),
  'cluster/removed': entry(
    'state',
    (d: { node: string }) =>
      `node ${d.node} was removed from the cluster; run on this host: calico-cnm cluster join (to join again), or calico-cnm cluster leave --force (to keep its networks in a datastore of its own)`,
  ),
  'cluster/responds': entry(
    'state',
    (d: { node: string; command: string }) =>
      `the cluster responds and has node ${d.node}, so it need not go on without it; run ${d.command}`,
  ),
  'cluster/not-a-backup': entry(
    'input',
    (d: { file: string; why: string }) =>
      `cannot restore ${d.file}: ${d.why}; give a file that calico-cnm cluster backup has written on a member`,
  ),
  'cluster/no-such-host': entry(
    'input',
    (d: { host: string; hosts: string }) =>
      `the cluster has no host ${d.host}; its hosts are ${d.hosts}`,
  ),
  'cluster/has-host': entry(
    'state',
    (d: { node: string }) =>
      `${d.node} is a host of the cluster; to delete it with its node, run on a member: calico-cnm cluster remove ${d.node}`,
  ),
  'cluster/no-own-data': entry(
    'state',
    () =>
      'the etcd of this host has no data; run the command on a host that was a member, or let each host go on alone: calico-cnm cluster leave --force',
  ),
  'cluster/command-runs': entry(
    'state',
    (d: { command: string }) =>
      `calico-cnm ${d.command} runs on this host; wait until it has ended, and run the command again`,
  ),
  'cluster/takes-long': entry(
    'unavailable',
    (d: { what: string }) =>
      `${d.what} takes long; see calico-cnm cluster status, and run the command again to continue`,
  ),
  'cluster/etcd-missing': entry(
    'state',
    () =>
      'etcd is not installed; to let this host become a member: apt-get install etcd-server etcd-client (after systemctl mask etcd)',
  ),
  'cluster/no-systemd': entry(
    'state',
    (d: { where: string }) =>
      `cannot run a member of etcd on ${d.where}; run cluster init on a host with the daemon of the .deb and systemd and join this one (as a client), or run an etcd yourself and set ETCD_ENDPOINTS`,
  ),
  'cluster/type-on-host': entry(
    'state',
    (d: { command: string }) =>
      `etcd runs on the host, where the managed plugin cannot start it; run as root on the host, and then the command of calico-cnm again: ${d.command}`,
  ),
  'cluster/clock-behind': entry(
    'state',
    (d: { now: string; file: string; written: string }) =>
      `the clock of this host is wrong: it is ${d.now}, but ${d.file} was written at ${d.written}; set it, for example: timedatectl set-ntp true`,
  ),
  'cluster/disk-full': entry(
    'state',
    (d: { folder: string; free: number; needed: number }) =>
      `${d.folder} has ${d.free} MiB of free space, and etcd needs ${d.needed} MiB; make room and run the command again`,
  ),
  'cluster/port-in-use': entry(
    'state',
    (d: { address: string; port: number }) =>
      `port ${d.port} of ${d.address} is in use; find its user with ss -ltnp sport = :${d.port}, stop it, and run the command again`,
  ),
  'cluster/backup-failed': entry(
    'state',
    (d: { file: string; why: string }) =>
      `no backup was written to ${d.file}: ${d.why}; fix this and run the command again`,
  ),
  'cluster/members-run': entry(
    'state',
    (d: { members: string }) =>
      `other members of etcd run (${d.members}), with data that a restore would lose; stop them first, on each: systemctl disable --now calico-cnm-etcd`,
  ),
  'cluster/tool-failed': entry(
    'unavailable',
    (d: { tool: string; why: string }) =>
      `${d.tool} failed: ${d.why}; fix this and run the command again`,
  ),
  'cluster/etcd-not-ready': entry(
    'unavailable',
    (d: { url: string; why: string }) =>
      `etcd at ${d.url} is not ready: ${d.why}; its log: journalctl -u calico-cnm-etcd`,
  ),
  'cluster/no-etcd': entry(
    'state',
    (d: { why: string; remedy: string }) =>
      `cannot install etcd: ${d.why}; ${d.remedy}, and run the command again`,
  ),
  'cluster/bad-certificate': entry('input', (d: { what: string }) => `${d.what} is not valid`),
  'cluster/bad-file': entry(
    'state',
    (d: { file: string; why: string }) =>
      `cannot use ${d.file}: ${d.why}; restore it from a backup, or remove this host from its cluster and join again`,
  ),
  'cluster/bad-token': entry(
    'input',
    () =>
      'this is not a join token; copy the whole line that calico-cnm cluster token create prints on a member',
  ),
  'cluster/token-rejected': entry('input', (d: { why: 'unknown' | 'used' | 'expired' }) => {
    const whys = {
      unknown: 'does not know this token',
      used: 'rejected the token because another host has used it',
      expired: 'rejected the token because it has expired',
    };
    return `the cluster ${whys[d.why]}; create another one on a member: calico-cnm cluster token create`;
  }),
  'cluster/bad-server': entry(
    'input',
    (d: { text: string }) => `"${d.text}" is not a member's address such as host-1:2381`,
  ),
  'cluster/unreachable': entry(
    'unavailable',
    (d: { server: string; why: string }) =>
      `cannot reach ${d.server} (${d.why}); check the address, that the daemon runs there, and that firewalls allow TCP port 2381`,
  ),
  'cluster/members-unreachable': entry(
    'unavailable',
    (d: { hosts: string }) =>
      `no member of the cluster responds (${d.hosts}); start them (on each: systemctl start calico-cnm-etcd), and if the address of a member has changed, run calico-cnm cluster join NEW-ADDRESS:2381 TOKEN on this host; if they are lost for good: calico-cnm cluster leave --force`,
  ),
  'cluster/other-authority': entry(
    'state',
    (d: { server: string }) =>
      `${d.server} is not a member of the cluster of this token: its certificate authority has another fingerprint; check the address, its port (2381) and the token, or create the token on that host`,
  ),
  'cluster/not-valid-now': entry(
    'state',
    (d: { server: string; now: string }) =>
      `the certificate of ${d.server} is not valid at ${d.now}, the time of this host; set the clocks of both hosts, for example: timedatectl set-ntp true`,
  ),
  'cluster/rejected': entry(
    'input',
    (d: { server: string; why: string; code: string }) => `${d.server}: ${d.why}`,
  ),
  'cluster/bad-request': entry(
    'input',
    (d: { field: string; why: string }) => `bad request: ${d.field} ${d.why}`,
  ),
  'cluster/too-many-guesses': entry(
    'unavailable',
    (d: { seconds: number }) =>
      `too many wrong tokens from this address; try again in ${d.seconds} s`,
  ),
  'cluster/no-certificate': entry(
    'input',
    () => 'the request has no certificate of a host of this cluster',
  ),
  'cluster/not-a-host': entry(
    'input',
    (d: { node: string }) =>
      `node ${d.node} is not a host of this cluster, or the certificate is that of another node`,
  ),
  'cluster/not-a-member': entry(
    'input',
    (d: { node: string }) => `node ${d.node} is not to be a member`,
  ),
  'cluster/name-in-use': entry(
    'state',
    (d: { node: string }) =>
      `a host with node name ${d.node} has joined the cluster; remove it on a member (calico-cnm cluster remove ${d.node}), or set NODENAME on this host and restart the daemon`,
  ),
  'cluster/other-cluster': entry(
    'state',
    (d: { node: string }) =>
      `this host (node ${d.node}) belongs to another cluster than that of the token; leave it first: calico-cnm cluster leave`,
  ),
  'cluster/interrupted': entry(
    'state',
    (d: { command: string }) =>
      `calico-cnm cluster ${d.command} was interrupted on this host; finish it first by running it again${d.command === 'leave' ? '' : ', or give it up: calico-cnm cluster leave'}`,
  ),
  'cluster/unfinished': entry(
    'state',
    (d: { command: string; reached: string; remedy: string }) =>
      `calico-cnm ${d.command} was interrupted on this host (${d.reached}); ${d.remedy}`,
  ),
  'cluster/data-moved': entry(
    'state',
    (d: { command: string }) =>
      `calico-cnm cluster ${d.command} was interrupted when the data of this host was already being moved to the cluster; finish it by running it again`,
  ),
  'cluster/no-migration': entry(
    'state',
    () =>
      'this host belongs to a cluster, whose etcd has its data; take it back to this host first: calico-cnm cluster leave',
  ),
  'cluster/own-etcd': entry(
    'state',
    () =>
      'this host uses the etcd of ETCD_ENDPOINTS and needs no cluster of calico-cnm; to join one, remove the setting and restart the daemon',
  ),
  'cluster/no-address': entry(
    'state',
    (d: { node: string }) =>
      `node ${d.node} has no address for other hosts; set IP or IP_AUTODETECTION_METHOD and restart the daemon`,
  ),
  'cluster/conflicts': entry(
    'state',
    (d: { count: number }) =>
      `this host cannot join because of ${d.count === 1 ? 'the conflict' : `the ${d.count} conflicts`} above, and nothing was changed; remove ${d.count === 1 ? 'it' : 'them'} and run the command again`,
  ),
  'cluster/no-admin': entry(
    'state',
    (d: { hosts: string }) =>
      `this command needs the administrator's certificate, which only members have; run it on ${d.hosts}`,
  ),
  'cluster/none': entry(
    'state',
    () =>
      'this host belongs to no cluster of calico-cnm; create one (calico-cnm cluster init), or join one (calico-cnm cluster join)',
  ),
} as const;
