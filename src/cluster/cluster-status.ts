import { clusterVersion, isWorking, type ObservedMember } from './etcd/observed-members.ts';
import { canJoin } from './etcd/package.ts';
import type { ClusterHost, ClusterRecords } from './records.ts';

/** The state of a cluster for `cluster status`, from what its members and records say; pure. */

/** A certificate file of this host and the days until it expires. */
export interface CertificateLife {
  readonly name: string;
  readonly days: number;
}

export interface ClusterFacts {
  readonly uid: string;
  readonly records: ClusterRecords;
  readonly members: readonly ObservedMember[];
  /** Nodes whose daemon reports that it runs. */
  readonly live: ReadonlySet<string>;
  readonly certificates: readonly CertificateLife[];
  /** Sentences on commands that have not ended, on this host or for the datastore of all. */
  readonly unfinished?: readonly string[];
}

/** One line of the table. */
export interface HostRow {
  readonly host: string;
  readonly address: string;
  readonly part: string;
  readonly etcd: string;
  readonly state: string;
  readonly database: string;
}

export interface ClusterState {
  readonly isHealthy: boolean;
  readonly rows: readonly HostRow[];
  /** Sentences on quorum and certificates. */
  readonly summary: readonly string[];
  /** What to do, imperative sentences. */
  readonly advice: readonly string[];
}

/** A certificate that is still not renewed then is reported. */
const fewDays = 30;

/** Returns what to show. */
export function clusterState(facts: ClusterFacts): ClusterState {
  const { records, members, live, certificates, unfinished = [] } = facts;
  const voters = members.filter(({ member }) => !member.isLearner);
  const responding = voters.filter(({ status }) => isWorking(status));
  const needed = Math.floor(voters.length / 2) + 1;
  const spare = responding.length - needed;
  const strangers = members.filter(({ host }) => host === undefined);
  const version = clusterVersion(members);
  const late = certificates.filter(({ days }) => days < fewDays);
  const isMember = certificates.some(({ name }) => name === 'admin.crt');
  const down = voters.filter(({ status }) => !isWorking(status));
  const full = members.some(({ status }) => typeof status !== 'string' && status.isFull);
  const advice = [
    ...unfinished,
    ...down.flatMap(({ host, member, status }) =>
      typeof status === 'string' ? [adviceFor(host?.node ?? member.name, spare >= 0)] : [],
    ),
    ...(spare < 0
      ? [
          'If a majority is lost for good, run on a member that remains: calico-cnm cluster restore FILE, or without a backup: calico-cnm cluster restore --own-data.',
        ]
      : []),
    ...strangers.map(
      ({ member }) => `Member ${member.name || member.id} belongs to no host; a member removes it.`,
    ),
    ...(full
      ? [
          'The database of etcd is full: members make room by themselves; if it stays full, delete what is not needed.',
        ]
      : []),
    ...late.map(({ name, days }) =>
      name === 'ca.crt' && !isMember
        ? `Renew ${name}, which expires in ${days} days: run calico-cnm cluster join MEMBER:2381 TOKEN on this host.`
        : `Renew ${name}, which expires in ${days} days: its renewal fails; see journalctl -u calico-cnm.`,
    ),
    ...outlook(records, live),
  ];
  const loss = spare === 1 ? 'one more may be lost' : `${spare} more may be lost`;
  const quorum =
    spare < 0
      ? 'no quorum: nothing can be changed, and running containers keep their network'
      : spare === 0 && voters.length > 1
        ? 'no other may be lost'
        : spare === 0
          ? 'the only member must not be lost'
          : loss;
  return {
    isHealthy:
      unfinished.length === 0 &&
      down.length === 0 &&
      !full &&
      late.length === 0 &&
      voters.length > 0,
    rows: records.hosts.map((host) =>
      rowOf(host, { member: memberOf(members, host), version, isLive: live.has(host.node) }),
    ),
    summary: [
      `quorum: ${responding.length} of ${voters.length} members respond, ${needed} needed; ${quorum}`,
      `certificates of this host: ${certificates.map(({ name, days }) => `${name} ${days} days`).join(', ')}`,
    ],
    advice,
  };
}

function rowOf(
  { node, record, report }: ClusterHost,
  facts: {
    readonly member: ObservedMember | undefined;
    readonly version: string;
    readonly isLive: boolean;
  },
): HostRow {
  const { member, version, isLive } = facts;
  const own = report?.etcd;
  const installed = own !== undefined && 'version' in own ? own.version : '';
  return {
    host: node,
    address: record.address,
    part: partOf(record.wanted, member),
    etcd:
      member !== undefined && typeof member.status !== 'string' ? member.status.version : installed,
    state: stateOf({ member, isLive, why: whyClient(record, own, version) }),
    database:
      member !== undefined && typeof member.status !== 'string'
        ? `${Math.ceil(member.status.fileBytes / (1 << 20))} MiB`
        : '',
  };
}

function partOf(wanted: string, member: ObservedMember | undefined): string {
  if (wanted === 'gone') return 'leaving';
  if (member === undefined) return wanted === 'member' ? 'becomes member' : 'client';
  return member.member.isLearner ? 'learner' : 'member';
}

function stateOf(facts: {
  readonly member: ObservedMember | undefined;
  readonly isLive: boolean;
  readonly why: string;
}): string {
  const { member, isLive, why } = facts;
  const daemon = isLive ? '' : 'daemon does not report';
  if (member === undefined) return [isLive ? 'running' : daemon, why].filter(Boolean).join('; ');
  const { status } = member;
  if (typeof status === 'string') return `etcd does not respond${isLive ? '' : `; ${daemon}`}`;
  const role =
    status.leader === '0'
      ? 'no leader'
      : status.leader === member.member.id
        ? 'leader'
        : 'follower';
  return [member.member.isLearner ? 'catching up' : role, daemon].filter(Boolean).join('; ');
}

/** Returns why a host cannot be a member; empty if it can. */
function whyClient(
  { onlyClient }: ClusterHost['record'],
  own: NonNullable<ClusterHost['report']>['etcd'] | undefined,
  version: string,
): string {
  if (onlyClient === true) return 'client by choice';
  if (own === undefined) return '';
  if ('unavailable' in own) return own.unavailable;
  if (canJoin(own.version, version)) return '';
  return `etcd ${own.version} cannot join a cluster of ${version}`;
}

function adviceFor(host: string, hasQuorum: boolean): string {
  const fix = `Start ${host}, or its etcd: systemctl start calico-cnm-etcd; if it does not stay up, see journalctl -u calico-cnm-etcd.`;
  return hasQuorum
    ? `${fix} If the host is lost for good: calico-cnm cluster remove ${host}.`
    : fix;
}

/** What is missing to more members. */
function outlook(
  { settings, hosts }: ClusterRecords,
  live: ReadonlySet<string>,
): readonly string[] {
  const present = hosts.filter(({ record }) => record.wanted !== 'gone');
  const left = hosts.filter(({ node, record }) => record.wanted === 'gone' && live.has(node));
  const removed = hosts.filter(({ node, record }) => record.wanted === 'gone' && !live.has(node));
  const missing = settings.members - present.length;
  return [
    ...removed.map(
      ({ node }) =>
        `Wait until ${node} is removed; if that takes minutes, run again: calico-cnm cluster remove ${node}.`,
    ),
    ...left.map(
      ({ node }) => `Finish the departure of ${node}: run calico-cnm cluster leave there.`,
    ),
    ...(missing > 0
      ? [
          `Let ${missing === 1 ? 'one more host' : `${missing} more hosts`} join, so that a member may be lost: calico-cnm cluster token create.`,
        ]
      : []),
  ];
}

function memberOf(
  members: readonly ObservedMember[],
  { node }: ClusterHost,
): ObservedMember | undefined {
  return members.find(({ host }) => host?.node === node);
}
