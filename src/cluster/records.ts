import { z } from 'zod';
import { listAll, type Datastore, type KeyValue } from '../datastore/datastore.ts';
import { CalicoError } from '../errors/error.ts';

/**
 * Records of the cluster itself, beside Calico's. What decides who is a member is written with the administrator's
 * credential only; a node writes its own report, and no other key here (cluster/roles.ts).
 */

const prefix = '/calico-cnm/cluster/';

/** The keys of the records. */
export const clusterKeys = {
  settings: `${prefix}settings`,
  hosts: `${prefix}hosts/`,
  reports: `${prefix}host-reports/`,
  keeper: `${prefix}keeper`,
  /** How often the members were asked to end their connections, and the member that restarts for it. */
  cut: `${prefix}cut`,
  restarting: `${prefix}restarting`,
  host: (node: string) => `${prefix}hosts/${node}`,
  report: (node: string) => `${prefix}host-reports/${node}`,
} as const;

const settings = z.looseObject({
  /** How many hosts are members, if there are as many. */
  members: z.union([z.literal(1), z.literal(3), z.literal(5)]),
});

export type ClusterSettings = z.infer<typeof settings>;

const host = z.looseObject({
  /** The address of the host for other hosts, and of its member. */
  address: z.string(),
  /** RFC 3339: when it joined. */
  joined: z.string(),
  /** `gone`: it leaves the cluster, or is removed. */
  wanted: z.enum(['member', 'client', 'gone']),
  /** The fingerprint of the key of its certificate: who joins under its name must have that key. */
  key: z.string().optional(),
  /** It never becomes a member. */
  onlyClient: z.boolean().optional(),
  /** How often its member had to be removed because it did not start. */
  attempt: z.number().int().nonnegative().default(0),
  /** The member that its daemon runs: its ID, and all members with their peer URLs when it was added. */
  member: z
    .object({
      id: z.string(),
      peers: z.array(z.object({ name: z.string(), peerUrl: z.string() })),
    })
    .optional(),
});

/** What the cluster wants of a host. */
export type HostRecord = z.infer<typeof host>;

const report = z.looseObject({
  address: z.string(),
  /** The installed etcd, or why it cannot be a member. */
  etcd: z.union([z.object({ version: z.string() }), z.object({ unavailable: z.string() })]),
  /** The attempt for which everything is there that a member needs. */
  preparedFor: z.number().int().optional(),
});

/** What a host says of itself. */
export type HostReport = z.infer<typeof report>;

/** A host of the cluster, with its report if it has written one. */
export interface ClusterHost {
  readonly node: string;
  readonly record: HostRecord;
  readonly report: HostReport | undefined;
}

/** All records that decide the membership, at about the same time. */
export interface ClusterRecords {
  readonly settings: ClusterSettings;
  /** In the order in which they joined. */
  readonly hosts: readonly ClusterHost[];
}

/** Reads the records; the defaults if there are none. Throws `datastore/…`. */
export async function readClusterRecords(
  datastore: Pick<Datastore, 'read' | 'pages'>,
  signal: AbortSignal,
): Promise<ClusterRecords> {
  const [own, hosts, reports] = await Promise.all([
    datastore.read([clusterKeys.settings], signal),
    listAll(datastore, clusterKeys.hosts, signal),
    listAll(datastore, clusterKeys.reports, signal),
  ]);
  const [found] = own.items;
  const reported = new Map(
    reports.items.map((item) => [item.key.slice(clusterKeys.reports.length), item]),
  );
  const all = hosts.items.map((item): ClusterHost => {
    const node = item.key.slice(clusterKeys.hosts.length);
    const said = reported.get(node);
    return {
      node,
      record: parse(host, item),
      // A report that cannot be read counts as none: it must not stop the others.
      report: said && report.safeParse(json(said)).data,
    };
  });
  return {
    settings: found === undefined ? { members: 3 } : parse(settings, found),
    hosts: all.toSorted(
      (a, b) => a.record.joined.localeCompare(b.record.joined) || a.node.localeCompare(b.node),
    ),
  };
}

/** Returns the record of one host. Throws `datastore/…`. */
export async function readHost(
  datastore: Pick<Datastore, 'read'>,
  node: string,
  signal: AbortSignal,
): Promise<HostRecord | undefined> {
  const { items } = await datastore.read([clusterKeys.host(node)], signal);
  return items[0] && parse(host, items[0]);
}

/** How often an update is tried against concurrent ones. */
const maxAttempts = 10;

type Updatable = Pick<Datastore, 'read' | 'commit'>;

async function update<T>(
  datastore: Updatable,
  key: string,
  { schema, signal }: { readonly schema: z.ZodType<T>; readonly signal: AbortSignal },
  change: (present: T | undefined) => T | undefined,
): Promise<T | undefined> {
  for (let attempts = 1; attempts <= maxAttempts; attempts++) {
    const {
      items: [found],
    } = await datastore.read([key], signal);
    const present = found && parse(schema, found);
    const changed = change(present);
    if (changed === present) return present;
    const value = changed === undefined ? undefined : JSON.stringify(changed);
    const { kind } = await datastore.commit(
      {
        compares: [{ key, modRevision: found?.modRevision ?? 0n }],
        writes: [{ key, value }],
      },
      signal,
    );
    if (kind === 'committed') return changed;
  }
  throw new CalicoError('datastore/contended', { what: key, attempts: maxAttempts });
}

/**
 * Changes the record of a host, from its present one; `undefined` removes it, the same object changes nothing. Returns
 * the new one. Needs the administrator's credential.
 */
export function updateHost(
  datastore: Updatable,
  node: string,
  change: (present: HostRecord | undefined) => HostRecord | undefined,
  signal: AbortSignal,
): Promise<HostRecord | undefined> {
  return update(datastore, clusterKeys.host(node), { schema: host, signal }, change);
}

/** A host leaves the cluster, or is removed; the keeper does the rest. */
export function markGone(
  datastore: Updatable,
  node: string,
  signal: AbortSignal,
): Promise<unknown> {
  return updateHost(
    datastore,
    node,
    (present) => present && { ...present, wanted: 'gone' },
    signal,
  );
}

/** As `updateHost`, for the report of a host, which that host writes. */
export function updateReport(
  datastore: Updatable,
  node: string,
  change: (present: HostReport | undefined) => HostReport | undefined,
  signal: AbortSignal,
): Promise<HostReport | undefined> {
  return update(datastore, clusterKeys.report(node), { schema: report, signal }, change);
}

/** As `updateHost`, for the settings. */
export async function updateSettings(
  datastore: Updatable,
  change: (present: ClusterSettings | undefined) => ClusterSettings,
  signal: AbortSignal,
): Promise<void> {
  await update(datastore, clusterKeys.settings, { schema: settings, signal }, change);
}

function parse<T>(schema: z.ZodType<T>, item: KeyValue): T {
  const result = schema.safeParse(json(item));
  if (result.success) return result.data;
  const why = z.prettifyError(result.error);
  throw new CalicoError('datastore/corrupt', { key: item.key, why });
}

function json({ value }: KeyValue): unknown {
  try {
    return JSON.parse(value);
  } catch {
    return undefined;
  }
}
