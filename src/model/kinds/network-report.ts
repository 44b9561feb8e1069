import { z } from 'zod';
import { entryType, firstPart, hostSegment, type EntryType } from '../entry-type.ts';

const networkReport = z.looseObject({
  node: z.string(),
  name: z.string(),
  /** The uid of the definition. */
  uid: z.string(),
  /** `creating` is written before the request to Docker, so that no host creates a network unknown to others. */
  state: z.enum(['creating', 'created', 'differs', 'failed']),
  /** How it differs, or why it failed, in Docker's words. */
  why: z.exactOptional(z.string()),
  since: z.string(),
});

/**
 * State of a defined network on one host, written by its daemon when it changes. While a host may have the network, its
 * report exists, and while a report exists, the definition does.
 */
export type NetworkReport = z.infer<typeof networkReport>;

/** Ids: `<node>/<name of the network>`; the node is the group. */
export const networkReportType: EntryType<NetworkReport> = entryType({
  label: 'network report',
  prefix: '/calico/docker/v1/network-report/',
  schema: networkReport,
  segment: hostSegment('/'),
  groups: firstPart,
  isObserved: true,
});
