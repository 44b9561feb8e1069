import type { Datastore } from '../../datastore/datastore.ts';
import { entryTypeOf } from '../../model/kinds/index.ts';
import { liveReportId } from '../../model/kinds/node-report.ts';
import { readClusterRecords, type ClusterHost, type ClusterRecords } from '../records.ts';
import type { EtcdAdmin, Member, MemberStatus } from './admin.ts';
import { clientPort, etcdUrl, peerPort } from './configuration.ts';
import { canJoin } from './package.ts';

/** Members of etcd as they are: with their state, and the hosts that they are on. */

/** A member with its state and its host. */
export interface ObservedMember {
  readonly member: Member;
  readonly status: MemberStatus | string;
  readonly host: ClusterHost | undefined;
}

/** Reads members, their state, and the records, and matches them. */
export async function observeMembers(
  { admin, datastore }: { readonly admin: EtcdAdmin; readonly datastore: Datastore },
  signal: AbortSignal,
): Promise<{ readonly records: ClusterRecords; readonly members: readonly ObservedMember[] }> {
  const [records, listed] = await Promise.all([
    readClusterRecords(datastore, signal),
    admin.members(),
  ]);
  const members = await Promise.all(
    listed.map(async (member): Promise<ObservedMember> => {
      const host = hostOf(records.hosts, member);
      // A learner tells its client URL only after it has started.
      const known = host === undefined ? [] : [etcdUrl(host.record.address, clientPort)];
      const clientUrls = member.clientUrls.length > 0 ? member.clientUrls : known;
      return { member, host, status: await admin.status({ clientUrls }) };
    }),
  );
  return { records, members };
}

function hostOf(hosts: readonly ClusterHost[], { id, peerUrls }: Member): ClusterHost | undefined {
  return (
    hosts.find(({ record }) => record.member?.id === id) ??
    hosts.find(({ record }) => peerUrls.includes(etcdUrl(record.address, peerPort)))
  );
}

/** Returns the hosts whose daemon reports that it runs. */
export async function liveNodes(
  datastore: Pick<Datastore, 'read'>,
  hosts: readonly Pick<ClusterHost, 'node'>[],
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const keys = new Map(
    hosts.map(({ node }) => [entryTypeOf.NodeReport.key(liveReportId(node)), node]),
  );
  if (keys.size === 0) return new Set();
  const { items } = await datastore.read([...keys.keys()], signal);
  return new Set(items.flatMap(({ key }) => keys.get(key) ?? []));
}

/** Reports whether a member responds and has a leader. */
export function isWorking(status: MemberStatus | string | undefined): status is MemberStatus {
  return typeof status === 'object' && status.leader !== '0';
}

/** Returns the lowest version of the voters, which is that of the cluster. */
export function clusterVersion(members: readonly ObservedMember[]): string {
  const versions = members.flatMap(({ member, status }) =>
    typeof status === 'string' || member.isLearner ? [] : [status.version],
  );
  const [lowest = '0.0.0'] = versions.toSorted((a, b) => (canJoin(a, b) ? 1 : -1));
  return lowest;
}
