import type { Draft } from '../datastore/writer.ts';
import { CalicoError } from '../errors/error.ts';
import { printable } from '../errors/printable.ts';
import {
  lastReportId,
  liveReportId,
  type HostIdentity,
  type NodeReport,
} from '../model/kinds/node-report.ts';
import type { Node } from '../model/kinds/node.ts';
import type { StoredEntries } from '../model/stored-entries.ts';
import { isSameHost } from './node-identity.ts';

/** Which nodes live, by their reports; and the claim of a host on its name. */

/** `gone`: its daemon has stopped or cannot reach the datastore. `unknown`: it has never reported. */
export type Liveness =
  | { readonly state: 'live' | 'gone'; readonly report: NodeReport }
  | { readonly state: 'unknown' };

/** Returns the state of a node. In a plan, the commit holds only if the state stays the same. */
export function livenessOf(stored: Pick<StoredEntries, 'get'>, node: string): Liveness {
  const live = stored.get('NodeReport', liveReportId(node));
  if (live !== undefined) return { state: 'live', report: live };
  const last = stored.get('NodeReport', lastReportId(node));
  return last === undefined ? { state: 'unknown' } : { state: 'gone', report: last };
}

/** Returns the time since which the daemon that reports has been running. */
export function startOf({ time, uptime }: NodeReport): Date | undefined {
  const started = new Date(Date.parse(time) - uptime * 1000);
  return Number.isNaN(started.getTime()) ? undefined : started;
}

/** Writes the reports of a node: the live one, and the one that stays. */
export function putReports(draft: Draft, node: string, report: NodeReport): void {
  draft.put('NodeReport', liveReportId(node), report);
  const { lease: _, ...last } = report;
  draft.put('NodeReport', lastReportId(node), last);
}

/** A host that claims a node name. */
export interface Claim {
  readonly node: string;
  readonly host: HostIdentity;
  /** The file that keeps the name, for the message. */
  readonly nodeNameFile: string;
}

/**
 * Throws `node/name-taken` if another host that lives has the name, or a node of Kubernetes, which never reports. A restart or a reboot of the same host takes over its
 * own report at once. The commit holds only if the report stays the same.
 */
export function rejectOtherHost(draft: Draft, { node, host, nodeNameFile: file }: Claim): void {
  const present = draft.get('NodeReport', liveReportId(node));
  if (present === undefined) {
    const value = draft.isUnreadable('Node', node) ? undefined : draft.get('Node', node);
    const [of] = value?.spec.orchRefs ?? [];
    if (of === undefined || livenessOf(draft, node).state !== 'unknown') return;
    const other = printable(`node ${of.nodeName ?? node} of ${of.orchestrator ?? 'k8s'}`);
    throw new CalicoError('node/name-taken', { node, other, file });
  }
  if (present.host !== undefined && isSameHost(present.host, host)) return;
  throw new CalicoError('node/name-taken', { node, other: describeHost(present), file });
}

function describeHost(report: NodeReport): string {
  const since = startOf(report);
  const [mac] = report.host?.macs ?? [];
  return printable(
    [
      ...(report.host === undefined ? ['Felix'] : []),
      ...(mac === undefined ? [] : [`MAC address ${mac}`]),
      ...(since === undefined ? [] : [`up since ${since.toISOString()}`]),
    ].join(', '),
  );
}

/** Throws `node/address-taken` if another node that lives, or may live, has one of the addresses of a Node. */
export function rejectOthersAddresses(draft: Draft, node: string, wanted: Node): void {
  const addresses = nodeIps(wanted);
  for (const [other, value] of draft.entries('Node')) {
    if (other === node) continue;
    const address = nodeIps(value).find((one) => addresses.includes(one));
    if (address === undefined) continue;
    const { state } = livenessOf(draft, other);
    if (state === 'gone') continue;
    const what = state === 'live' ? 'it is running' : 'may be running, as it has never reported';
    throw new CalicoError('node/address-taken', { address, other, state: what });
  }
}

/** Returns the addresses in `spec.bgp`, without prefix lengths. */
export function nodeIps({ spec }: Node): readonly string[] {
  return [spec.bgp?.ipv4Address, spec.bgp?.ipv6Address].flatMap((address) =>
    address === undefined || address === '' ? [] : [address.replace(/\/\d+$/, '')],
  );
}

/** The annotation of a Node whose deletion has begun: its daemon must not write any more. */
const deletionAnnotation = 'docker.projectcalico.org/being-deleted';

export function isBeingDeleted(node: Node): boolean {
  return node.metadata.annotations?.[deletionAnnotation] !== undefined;
}

/** Returns the Node, marked. */
export function beingDeleted(node: Node, now: Date): Node {
  const annotations = { ...node.metadata.annotations, [deletionAnnotation]: now.toISOString() };
  return { ...node, metadata: { ...node.metadata, annotations } };
}
