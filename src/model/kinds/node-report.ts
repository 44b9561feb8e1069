import { z } from 'zod';
import { entryType, firstPart, plainSegment, type EntryType } from '../entry-type.ts';

/** What tells one host from another that has the same node name. */
const hostIdentity = z.looseObject({
  /** Changes at every boot. */
  bootId: z.string(),
  /** The network namespace of the daemon: hosts made of namespaces have the boot ID in common. */
  networkNamespace: z.string(),
  /** Copied with a disk, and therefore not enough. */
  machineId: z.string(),
  /** MAC addresses of the interfaces of the host itself. */
  macs: z.array(z.string()),
});

export type HostIdentity = z.infer<typeof hostIdentity>;

const nodeReport = z.looseObject({
  /** RFC 3339: since when the daemon runs. */
  time: z.string(),
  /** Seconds that the daemon had run then. */
  uptime: z.number(),
  first_update: z.boolean(),
  /** The lease of the key in etcd, which the daemon renews. */
  lease: z.exactOptional(z.string()),
  host: z.exactOptional(hostIdentity),
});

/** The report of a node's daemon that it runs. */
export type NodeReport = z.infer<typeof nodeReport>;

/** IDs of the reports of a node: one that exists while its daemon lives, and the last one, which stays. */
export const liveReportId = (node: string): string => `${node}/status`;
export const lastReportId = (node: string): string => `${node}/last_reported_status`;

/**
 * Felix's status reports. Source: libcalico-go/lib/backend/model/statuskeys.go. They are not written again while a
 * daemon runs, because every host watches all keys: the lease of the live one is renewed instead.
 */
export const nodeReportType: EntryType<NodeReport> = entryType({
  label: 'node status report',
  prefix: '/calico/felix/v2/no-region/host/',
  schema: nodeReport,
  segment: plainSegment((id) => /^[^/]+\/(status|last_reported_status)$/.test(id)),
  groups: firstPart,
  leaseOf: ({ lease }) => lease,
});
