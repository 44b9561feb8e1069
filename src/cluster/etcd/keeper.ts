import { pause } from '../../async/deadline.ts';
import type { Work } from '../../async/supervise.ts';
import type { Datastore } from '../../datastore/datastore.ts';
import { GroupWriter } from '../../cache/group-writer.ts';
import { UncachedView } from '../../cache/uncached-view.ts';
import { describe, isCalicoError } from '../../errors/error.ts';
import { deleteNode } from '../../host/delete-node.ts';
import { putNodeUser, removeNodeUser } from '../auth.ts';
import { startNamespaceAccess, type NamespaceAccess } from './namespace-access.ts';
import { requestCut } from './cut-connections.ts';
import {
  clusterKeys,
  readClusterRecords,
  readHost,
  updateHost,
  updateReport,
  type HostRecord,
} from '../records.ts';
import type { EtcdAdmin, Member } from './admin.ts';
import { etcdUrl, peerPort } from './configuration.ts';
import { maintain, type MaintenanceMemory } from './maintenance.ts';
import { nextStep, type MembershipState, type Step } from './next-step.ts';
import {
  clusterVersion,
  isWorking,
  liveNodes,
  observeMembers,
  type ObservedMember,
} from './observed-members.ts';
import { canJoin } from './package.ts';

/** The keeper: on one of the members, it makes those hosts members that the records want. */

/** Lifetime of the key by which one keeper acts, in seconds: after its host is lost, another one continues. */
const leaseSeconds = 8;
/** Pauses in milliseconds: while another keeper acts, while nothing is to be done, during a change, after a failure. */
const [otherMs, idleMs, busyMs, failedMs] = [2000, 1000, 100, 500];
/** So many pauses during a change are short. */
const maxWaits = 300;
const maintainMs = 30_000;
/**
 * etcd makes no further change until all voters have been connected for 5 s (etcd, HealthInterval), as learners or as
 * voters.
 */
const settledMs = 5500;
/** How long a learner may take to start and to catch up; the second is for the time in which two have a vote. */
const [learnerMs, hastyLearnerMs] = [30_000, 6000];

/** What the keeper works with; datastore and administration have the administrator's credential. */
export interface KeeperDeps {
  readonly node: string;
  readonly datastore: Datastore;
  readonly admin: EtcdAdmin;
  readonly log: { info(event: string, fields?: Readonly<Record<string, unknown>>): void };
  /** Returns true to end the keeper, because it must use other endpoints. */
  readonly onMembers?: (members: readonly Member[]) => boolean;
}

/** What a keeper remembers between two steps; a new one begins without it. */
export interface KeeperMemory extends MaintenanceMemory {
  /** When each member was seen first, as a learner, and when it responded first, in milliseconds since 1970. */
  readonly learners: Map<string, number>;
  readonly responding: Map<string, number>;
}

export function newMemory(): KeeperMemory {
  return { learners: new Map(), responding: new Map(), samples: [] };
}

/** Runs until the signal is aborted, or other endpoints are needed. Of all keepers one acts, as long as it lives. */
export async function keepMembers(
  deps: KeeperDeps,
  work: Work,
  signal: AbortSignal,
): Promise<void> {
  const { datastore, admin } = deps;
  const memory = newMemory();
  let lease: string | undefined;
  let maintainedAt = 0;
  let waits = 0;
  let isRefreshed = false;
  let namespaces: NamespaceAccess | undefined;
  try {
    while (!signal.aborted) {
      let waitMs = otherMs;
      try {
        const isFull = await isFullHere(deps);
        // A full etcd grants no lease: then the keeper beside the leader acts.
        if (isFull === undefined) lease = await holdKey(deps, lease, signal);
        if (isFull === undefined && lease !== undefined) {
          if (!isRefreshed) await refreshUsers(deps, signal);
          isRefreshed = true;
          const ended = namespaces?.ended();
          if (namespaces === undefined || ended !== undefined) {
            namespaces = startNamespaceAccess(deps, signal);
          }
          if (ended !== undefined) throw ended.error;
          const step = await keepOnce(deps, memory, signal);
          waits = step.kind === 'wait' ? waits + 1 : 0;
          // What is waited for may never come.
          waitMs = step.kind === 'done' || waits > maxWaits ? idleMs : busyMs;
        }
        const isDue = lease !== undefined && Date.now() - maintainedAt > maintainMs;
        if (isFull ?? isDue) {
          maintainedAt = Date.now();
          await maintain(deps, memory, signal);
        }
        work.succeeded();
        if (deps.onMembers?.(await admin.members()) === true) return;
      } catch (error) {
        if (!signal.aborted) work.failed(error);
        waitMs = failedMs;
      }
      await pause(waitMs, signal);
    }
  } finally {
    namespaces?.stop();
    if (lease !== undefined) await datastore.leases?.revoke(lease).catch(() => undefined);
  }
}

/** A new version may need other rights for its nodes. */
async function refreshUsers({ admin, datastore }: KeeperDeps, signal: AbortSignal): Promise<void> {
  const { hosts } = await readClusterRecords(datastore, signal);
  for (const { node, record } of hosts) {
    if (record.wanted !== 'gone') await usersOf(admin).put(node);
  }
}

/** Reports whether the leader is on this host, if the database of etcd is full; `undefined` if it is not. */
async function isFullHere({ admin, node }: KeeperDeps): Promise<boolean | undefined> {
  const members = await admin.members();
  const states = await Promise.all(
    members.map(async (member) => ({ member, status: await admin.status(member) })),
  );
  const full = states.flatMap(({ member, status }) =>
    typeof status === 'string' || !status.isFull ? [] : [{ member, leader: status.leader }],
  );
  if (full.length === 0) return undefined;
  return full.some(({ member, leader }) => member.id === leader && member.name === node);
}

/** Returns the lease of the key if this keeper is the one that acts. */
async function holdKey(
  { datastore, node }: KeeperDeps,
  held: string | undefined,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { leases } = datastore;
  if (leases === undefined) return undefined;
  if (held !== undefined && (await leases.renew(held))) return held;
  const { items } = await datastore.read([clusterKeys.keeper], signal);
  if (items.length > 0) return undefined;
  const lease = await leases.grant(leaseSeconds);
  const { kind } = await datastore.commit(
    {
      compares: [{ key: clusterKeys.keeper, modRevision: 0n }],
      writes: [{ key: clusterKeys.keeper, value: JSON.stringify({ node }), lease }],
    },
    signal,
  );
  if (kind === 'committed') return lease;
  await leases.revoke(lease);
  return undefined;
}

/** Determines the next step and takes it; returns it. */
export async function keepOnce(
  deps: Pick<KeeperDeps, 'admin' | 'datastore' | 'log'>,
  memory: KeeperMemory,
  signal: AbortSignal,
): Promise<Step> {
  const observed = await observe(deps, memory, signal);
  const step = nextStep(observed.state);
  await take(deps, observed, step, signal);
  if (step.kind !== 'wait' && step.kind !== 'done') {
    const { kind, ...details } = step;
    deps.log.info('cluster member step', { step: kind, ...details });
  }
  return step;
}

interface Observed {
  readonly state: MembershipState;
  readonly members: readonly ObservedMember[];
}

async function observe(
  deps: Pick<KeeperDeps, 'admin' | 'datastore'>,
  memory: KeeperMemory,
  signal: AbortSignal,
): Promise<Observed> {
  const { records, members } = await observeMembers(deps, signal);
  const live = await liveNodes(deps.datastore, records.hosts, signal);
  const version = clusterVersion(members);
  const voters = members.filter(({ member }) => !member.isLearner);
  const isEven = voters.length % 2 === 0;
  const learners = members.filter(({ member }) => member.isLearner);
  for (const id of memory.learners.keys()) {
    if (!learners.some(({ member }) => member.id === id)) memory.learners.delete(id);
  }
  for (const { member } of learners) {
    if (!memory.learners.has(member.id)) memory.learners.set(member.id, Date.now());
  }
  for (const { member, status } of members) {
    const since = memory.responding.get(member.id) ?? Date.now();
    if (typeof status === 'string') memory.responding.delete(member.id);
    else memory.responding.set(member.id, since);
  }
  const isLate = ({ id }: Member) =>
    Date.now() - (memory.learners.get(id) ?? Infinity) > (isEven ? hastyLearnerMs : learnerMs);
  return {
    members,
    state: {
      size: records.settings.members,
      hosts: records.hosts.map(({ node, record, report }, order) => ({
        name: node,
        order,
        wanted: record.wanted,
        prepared: record.wanted === 'member' && report?.preparedFor === record.attempt,
        live: live.has(node),
        moved: report !== undefined && report.address !== record.address,
        capable:
          record.onlyClient !== true &&
          report !== undefined &&
          'version' in report.etcd &&
          canJoin(report.etcd.version, version),
      })),
      members: members.map(({ member, host, status }) => ({
        id: member.id,
        host: host?.node,
        isLearner: member.isLearner,
        healthy: isWorking(status),
        settled: Date.now() - (memory.responding.get(member.id) ?? Infinity) > settledMs,
        isLeader: typeof status !== 'string' && status.leader === member.id,
        announced: host?.record.member?.id === member.id,
        late: isLate(member),
      })),
    },
  };
}

async function take(
  { admin, datastore, log }: Pick<KeeperDeps, 'admin' | 'datastore' | 'log'>,
  { members }: Observed,
  step: Step,
  signal: AbortSignal,
): Promise<void> {
  const change = (node: string, to: (record: HostRecord) => HostRecord) =>
    updateHost(datastore, node, (record) => record && to(record), signal);
  switch (step.kind) {
    case 'want':
      await change(step.host, (record) => ({ ...record, wanted: step.part }));
      return;
    case 'add': {
      const { records } = await observeMembers({ admin, datastore }, signal);
      const host = records.hosts.find(({ node }) => node === step.host);
      if (host === undefined) return;
      const { id, members: all } = await admin.addLearner(etcdUrl(host.record.address, peerPort));
      await announce(change, { host: step.host, id }, named(all, members));
      return;
    }
    case 'announce': {
      const all = members.map(({ member }) => member);
      await announce(change, step, named(all, members));
      return;
    }
    case 'promote':
      if (!(await admin.promote(step.id))) await pause(busyMs, signal);
      return;
    case 'remove':
      await admin.remove(step.id);
      if (step.host === undefined) return;
      await change(step.host, ({ member: _, ...record }) => ({
        ...record,
        attempt: record.attempt + (step.failed ? 1 : 0),
      }));
      return;
    case 'move-leader': {
      const leader = members.find(
        ({ member, status }) => typeof status !== 'string' && status.leader === member.id,
      );
      if (leader === undefined) return;
      try {
        await admin.moveLeader(leader.member, step.to);
      } catch (error) {
        log.info('leader not moved', { why: describe(error) });
      }
      return;
    }
    case 'readdress': {
      const { hosts } = await readClusterRecords(datastore, signal);
      const address = hosts.find(({ node }) => node === step.host)?.report?.address;
      if (address === undefined) return;
      const own = members.find(({ host }) => host?.node === step.host)?.member;
      const peerUrl = etcdUrl(address, peerPort);
      if (own !== undefined && !own.peerUrls.includes(peerUrl)) {
        await admin.updatePeerUrl(own.id, peerUrl);
      }
      await change(step.host, (record) => ({ ...record, address }));
      return;
    }
    case 'forget':
      await forget({ users: usersOf(admin), datastore, log }, step.host, signal);
      return;
    case 'wait':
    case 'done':
  }
}

/** Users of nodes in etcd. Idempotent. */
interface NodeUsers {
  readonly put: (node: string) => Promise<void>;
  readonly remove: (node: string) => Promise<void>;
}

function usersOf(admin: EtcdAdmin): NodeUsers {
  return {
    put: (node) => admin.auth((auth) => putNodeUser(auth, node)),
    remove: (node) => admin.auth((auth) => removeNodeUser(auth, node)),
  };
}

/**
 * Deletes everything of a host that has left. Its record is the last, so that it is continued after an interruption. A
 * host that joins again meanwhile stays.
 */
export async function forget(
  { users, datastore, log }: Pick<KeeperDeps, 'datastore' | 'log'> & { readonly users: NodeUsers },
  node: string,
  signal: AbortSignal,
): Promise<void> {
  await users.remove(node);
  // Admission writes the record before it creates the user.
  if ((await readHost(datastore, node, signal))?.wanted !== 'gone') return users.put(node);
  // A watch of a host that was removed would go on.
  await requestCut(datastore, signal);
  const writer = new GroupWriter(new UncachedView(datastore));
  const { view } = writer;
  try {
    await deleteNode(
      {
        look: (look) => view.look(() => look(view), signal),
        write: async (plan) => (await writer.write(plan, signal)).result,
      },
      { node, isForced: true, now: new Date() },
      (line) => log.info('node deletion', { node, line }),
    );
  } catch (error) {
    if (!isCalicoError(error, 'datastore/not-found')) throw error;
  }
  await updateReport(datastore, node, () => undefined, signal);
  await updateHost(
    datastore,
    node,
    (record) => (record?.wanted === 'gone' ? undefined : record),
    signal,
  );
}

/** Returns the members with the names by which a new one must know them; before it starts, that of its host. */
function named(all: readonly Member[], observed: readonly ObservedMember[]) {
  return all.flatMap(({ id, name, peerUrls: [peerUrl] }) => {
    const host = observed.find(({ member }) => member.id === id)?.host;
    return peerUrl === undefined ? [] : [{ id, name: name || (host?.node ?? id), peerUrl }];
  });
}

/** Tells a host that it is a member, and to start it. */
async function announce(
  change: (node: string, to: (record: HostRecord) => HostRecord) => Promise<unknown>,
  { host, id }: { readonly host: string; readonly id: string },
  all: readonly { readonly id: string; readonly name: string; readonly peerUrl: string }[],
): Promise<void> {
  const peers = all.map((one) => ({
    name: one.id === id ? host : one.name,
    peerUrl: one.peerUrl,
  }));
  await change(host, (record) => ({ ...record, member: { id, peers } }));
}
