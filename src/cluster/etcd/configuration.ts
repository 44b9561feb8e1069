import type { ClusterPaths } from '../cluster-file.ts';
import { commonNames } from '../pki/common-names.ts';

/** The ports of a member: of its clients, and of other members. */
export const clientPort = 2379;
export const peerPort = 2380;

/** The unit of our etcd; Debian's own is `etcd.service`. */
export const etcdUnit = 'calico-cnm-etcd.service';

/** The program of Debian's etcd-server. */
export const etcdProgram = '/usr/bin/etcd';

/** Size of the database, in bytes, at which etcd refuses writes (alarm NOSPACE); etcd's default. */
export const quotaBytes = 2 * 1024 ** 3;

/** A member of the cluster as others reach it. */
export interface Peer {
  readonly name: string;
  readonly peerUrl: string;
}

/** What distinguishes the configuration of one member from that of another. */
export interface EtcdConfiguration {
  /** The node name. */
  readonly name: string;
  /** The address of the host for other hosts. */
  readonly address: string;
  /** The identity of the cluster. */
  readonly cluster: string;
  /** All members when this one starts for the first time, itself included; etcd ignores it later. */
  readonly members: readonly Peer[];
  /** Whether this member starts the cluster or is added to it. */
  readonly state: 'new' | 'existing';
  /** Default: `quotaBytes`. */
  readonly quotaBytes?: number;
}

/** Returns the URL for an address and a port; IPv6 addresses are put in brackets. */
export function etcdUrl(address: string, port: number): string {
  return `https://${address.includes(':') ? `[${address}]` : address}:${port}`;
}

/** Returns the address in a URL, as `etcdUrl` writes it. */
export function addressIn(url: string): string {
  return new URL(url).hostname.replace(/^\[(.*)\]$/, '$1');
}

/** Returns the configuration file of etcd. Source: etcd, etcd.conf.yml.sample of 3.4 and 3.5. */
export function configurationText(
  { name, address, cluster, members, state, quotaBytes: quota = quotaBytes }: EtcdConfiguration,
  paths: ClusterPaths,
): string {
  const [client, peer] = [etcdUrl(address, clientPort), etcdUrl(address, peerPort)];
  const text = JSON.stringify;
  const all = members.map((member) => `${member.name}=${member.peerUrl}`).join(',');
  return `# Written by calico-cnm, which replaces it: do not edit.
name: ${text(name)}
data-dir: ${text(dataFolder(paths))}

listen-client-urls: ${text(client)}
advertise-client-urls: ${text(client)}
client-transport-security:
  cert-file: ${text(paths.serverCert)}
  key-file: ${text(paths.serverKey)}
  trusted-ca-file: ${text(paths.ca)}
  client-cert-auth: true

listen-peer-urls: ${text(peer)}
initial-advertise-peer-urls: ${text(peer)}
peer-transport-security:
  cert-file: ${text(paths.peerCert)}
  key-file: ${text(paths.peerKey)}
  trusted-ca-file: ${text(paths.ca)}
  client-cert-auth: true
  # The certificates of nodes are of the same authority, and are none of a member.
  allowed-cn: ${text(commonNames.peer)}

initial-cluster: ${text(all)}
initial-cluster-token: ${text(cluster)}
initial-cluster-state: ${state}

# History is kept for hosts that lose their connection for less than this; they then miss no change.
auto-compaction-mode: periodic
auto-compaction-retention: 5m
quota-backend-bytes: ${quota}
# The gateway knows users by password only.
enable-grpc-gateway: false
logger: zap
log-outputs: [stderr]
log-level: warn
`;
}

/** Returns the folder of a member's data. */
export function dataFolder({ etcd }: Pick<ClusterPaths, 'etcd'>): string {
  return `${etcd}/data`;
}

/** Returns the path of the configuration file. */
export function configurationFile({ etcd }: Pick<ClusterPaths, 'etcd'>): string {
  return `${etcd}/etcd.yaml`;
}

/** Returns the unit file of a member. Source: systemd.exec(5), systemd.service(5). */
export function unitText(paths: ClusterPaths): string {
  return `[Unit]
Description=etcd of the calico-cnm cluster
Documentation=https://etcd.io/docs/
# It listens on an address of the host.
Wants=network-online.target
After=network-online.target
# Never stop restarting it.
StartLimitIntervalSec=0

[Service]
# A member is ready when a majority of the members runs. The start of this host must not wait for other hosts.
Type=exec
ExecStart=${etcdProgram} --config-file=${configurationFile(paths)}
Restart=always
RestartSec=1
TimeoutStopSec=15
OOMScoreAdjust=-500
LimitNOFILE=65536
# It reads its certificates and writes its data. It runs as root so that a renewed certificate and a restored backup
# need no change of owner, and without any capability.
CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=${paths.etcd}
InaccessiblePaths=-${paths.caKey} -${paths.adminKey} -${paths.nodeKey}
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictSUIDSGID=yes
LockPersonality=yes

[Install]
WantedBy=multi-user.target
`;
}
