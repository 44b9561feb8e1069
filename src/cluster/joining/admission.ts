import type { Datastore } from '../../datastore/datastore.ts';
import { listAll } from '../../datastore/datastore.ts';
import { CalicoError } from '../../errors/error.ts';
import { entryTypeOf } from '../../model/kinds/index.ts';
import type { KeyPair } from '../pki/authority.ts';
import { readClusterRecords, readHost, updateHost, type HostRecord } from '../records.ts';
import { etcdUserOf } from '../roles.ts';
import { redeemToken } from '../tokens.ts';
import { findConflicts, freeRanges, kindsOfMainland, type Mainland } from './conflicts.ts';
import type { CheckResponse, IslandRequest, JoinRequest, JoinResponse } from './protocol.ts';
import type { StoredItem } from './stored-items.ts';

/** What a member does for a host that joins. Every step may be repeated. */

/** What the admission of a host needs of the member that serves it. */
export interface AdmissionDeps {
  /** Identity of the cluster. */
  readonly uid: string;
  /** Opened with the administrator's credential. */
  readonly datastore: Datastore;
  /** The certificate authority, from this host's files. */
  readonly authority: () => KeyPair;
  /** Client URLs of the members. */
  readonly endpoints: () => Promise<readonly string[]>;
  readonly users: NodeUsers;
  readonly now: () => Date;
  /** Keys that an interrupted move of the node has written to the datastore, and that nobody has changed since. */
  readonly ownCopies: (node: string, signal: AbortSignal) => Promise<ReadonlySet<string>>;
  /** Names of the island's values that the cluster has with another meaning, of kinds that `findConflicts` ignores. */
  readonly collisions: (island: IslandRequest, signal: AbortSignal) => Promise<readonly string[]>;
}

/** Users of nodes in etcd. Idempotent. */
export interface NodeUsers {
  /** Creates a node's user and role, and lets it move its data into the cluster. */
  readonly admit: (node: string) => Promise<void>;
  /** Takes away what only the move needs. */
  readonly moved: (node: string) => Promise<void>;
}

/** Compares a host with the cluster; changes nothing. */
export async function checkIsland(
  deps: AdmissionDeps,
  island: IslandRequest,
  signal: AbortSignal,
): Promise<CheckResponse> {
  const { uid, datastore, now } = deps;
  const items: StoredItem[] = [];
  for (const prefix of new Set(kindsOfMainland.map((kind) => entryTypeOf[kind].prefix))) {
    for (const item of (await listAll(datastore, prefix, signal)).items) items.push(item);
  }
  const own = await deps.ownCopies(island.node, signal);
  const mainland: Mainland = { time: now(), items, own };
  const facts = { ...island, time: new Date(island.time) };
  const conflicts = findConflicts(facts, mainland);
  const objects = (await deps.collisions(island, signal)).map((name) => ({
    about: 'object' as const,
    text: `${name} differs from that of the cluster; make both equal, or delete it here`,
  }));
  const { settings, hosts } = await readClusterRecords(datastore, signal);
  const others = hosts.filter(
    ({ node, record }) => node !== island.node && record.wanted !== 'gone',
  );
  return {
    kind: 'checked',
    uid,
    conflicts: [...conflicts.map(({ about, text }) => ({ about, text })), ...objects],
    freeRanges: [...freeRanges(conflicts, { island, cluster: mainland })],
    hosts: others.length + 1,
    members: settings.members,
  };
}

/**
 * Admits a host: binds the token to the join, creates the user of the node, issues its certificate, and records the
 * host. A host with conflicts is not admitted, and its token stays unused. Throws `cluster/token-rejected`,
 * `cluster/name-in-use`, `datastore/…`.
 */
export async function admitIsland(
  deps: AdmissionDeps,
  request: JoinRequest,
  use: {
    readonly token: { readonly id: string; readonly secret: string };
    readonly join: string;
    readonly signal: AbortSignal;
  },
): Promise<JoinResponse> {
  const { datastore, now, uid } = deps;
  const { token, join, signal } = use;
  const checked = await checkIsland(deps, request, signal);
  if (checked.conflicts.length > 0) return checked;
  const { node, address, isClientOnly } = request;
  const { requestedKeyFingerprint } = await import('../pki/authority.ts');
  const key = await requestedKeyFingerprint(request.request);
  // Every host can read what identifies another one; only the key proves that it is the same.
  const requireSame = (present: HostRecord | undefined): void => {
    if (present === undefined || present.wanted === 'gone' || present.key === key) return;
    throw new CalicoError('cluster/name-in-use', { node });
  };
  requireSame(await readHost(datastore, node, signal));
  await redeemToken(datastore, { ...token, join }, { now: now(), signal });
  await updateHost(
    datastore,
    node,
    (present) => {
      // Of two hosts with one name that join at the same time, the first one has it.
      requireSame(present);
      const isOwn = present !== undefined && present.wanted !== 'gone';
      return {
        ...(isOwn ? present : { joined: now().toISOString(), wanted: 'client', attempt: 0 }),
        address,
        key,
        ...(isClientOnly ? { onlyClient: true } : {}),
      };
    },
    signal,
  );
  await deps.users.admit(node);
  const certificate = await issueNodeCertificate(deps, { node, request: request.request });
  return {
    kind: 'admitted',
    uid,
    ca: deps.authority().certificate,
    certificate,
    endpoints: [...(await deps.endpoints())],
  };
}

/** Issues the certificate of a node as a user of etcd, and of no other. */
export async function issueNodeCertificate(
  { authority, now }: Pick<AdmissionDeps, 'authority' | 'now'>,
  { node, request }: { readonly node: string; readonly request: string },
): Promise<string> {
  const { issue } = await import('../pki/authority.ts');
  return issue(authority(), { request, usage: 'client', commonName: etcdUserOf(node) }, now());
}
