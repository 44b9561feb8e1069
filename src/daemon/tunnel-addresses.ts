import { backoffMs, pause } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import { Waiters } from '../async/waiters.ts';
import type { EntryChanges, Mirror } from '../cache/mirror.ts';
import { isMirrorLocked } from '../cache/lock.ts';
import type { Draft, Writer } from '../datastore/writer.ts';
import type { IpAddress, IpFamily } from '../ip/address.ts';
import { keepTunnelAddress, vxlanTunnels } from '../ipam/tunnels/tunnel-addresses.ts';
import type { EntryKind } from '../model/kinds/index.ts';
import type { Stamp } from '../model/stamp.ts';
import {
  chosenVni,
  configurationsOf,
  vxlanFamily,
  vxlanSettings,
} from '../routing/vxlan-settings.ts';
import type { Logger } from '../telemetry/log.ts';

export interface TunnelAddressDeps {
  readonly node: string;
  readonly families: readonly IpFamily[];
  readonly mirror: Mirror;
  readonly writer: Writer;
  readonly stamp: Stamp;
  readonly now: () => Date;
  readonly log: Logger;
  readonly work: Work;
}

/** The kinds that the addresses depend on; unlocking the datastore is a reason to try again, too. */
const kinds: ReadonlySet<EntryKind> = new Set<EntryKind>([
  'IPPool',
  'FelixConfiguration',
  'ClusterInformation',
]);

/**
 * Keeps the tunnel addresses in this host's Node until the signal is aborted: after every change of the pools, of the
 * configuration, or of the Node itself. Failures are reported, and retried with a back-off.
 */
export async function keepTunnelAddresses(
  deps: TunnelAddressDeps,
  signal: AbortSignal,
): Promise<void> {
  const { mirror, work, node } = deps;
  let isChanged = true;
  const waiters = new Waiters();
  const unsubscribe = mirror.subscribe(({ changes }: EntryChanges) => {
    const concerns = changes.some(
      ({ kind, id }) => kinds.has(kind) || (kind === 'Node' && id === node),
    );
    if (!concerns) return;
    isChanged = true;
    waiters.settle();
  });
  let delays = backoffMs(1000, 60_000);
  try {
    while (!signal.aborted) {
      await waiters.until(() => isChanged, signal).catch(() => undefined);
      if (signal.aborted) return;
      isChanged = false;
      try {
        if (!isMirrorLocked(mirror)) await writeTunnelAddresses(deps, signal);
        work.succeeded();
        delays = backoffMs(1000, 60_000);
      } catch (error) {
        if (signal.aborted) return;
        work.failed(error);
        isChanged = true;
        await pause(delays.next().value, signal);
      }
    }
  } finally {
    unsubscribe();
  }
}

async function writeTunnelAddresses(deps: TunnelAddressDeps, signal: AbortSignal): Promise<void> {
  const { node, families, writer, log } = deps;
  const writing = families.map(async (family) => {
    const { result } = await writer.write((draft) => planTunnel(draft, deps, family), signal);
    const { before, address } = result;
    if (address === before) return;
    const what = address === undefined ? 'released' : 'allocated';
    log.info(`VXLAN tunnel address ${what}`, { node, address: address ?? before });
  });
  // The failure of one family does not stop the other.
  await Promise.allSettled(writing);
  await Promise.all(writing);
}

/** A plan for the address of one family, and for the VNI of the cluster before the first tunnel. */
export function planTunnel(
  draft: Draft,
  { node, now, stamp }: Pick<TunnelAddressDeps, 'node' | 'now' | 'stamp'>,
  family: IpFamily,
): { readonly before: string | undefined; readonly address: IpAddress | undefined } {
  const tunnel = vxlanTunnels[family];
  const stored = draft.get('Node', node)?.spec[tunnel.field];
  const before = stored === '' ? undefined : stored;
  const [ofNode, ofAll] = configurationsOf(node);
  const { isAllowed } = vxlanSettings(
    draft.get('FelixConfiguration', ofNode),
    draft.get('FelixConfiguration', ofAll),
  );
  const isFirst = !hasTunnels(draft);
  const address = keepTunnelAddress(draft, {
    node,
    tunnel,
    isForPool: (pool) => isAllowed && vxlanFamily(pool) === family,
    now: now(),
  });
  if (address !== undefined && isFirst) chooseVni(draft, stamp);
  return { before, address };
}

/**
 * Chooses the VNI before the cluster has a tunnel; all nodes, also those of Felix, read it. A cluster that names one
 * keeps it, and one that has tunnels keeps Felix's default.
 */
function chooseVni(draft: Draft, stamp: Stamp): void {
  const [, name] = configurationsOf('');
  if (draft.isUnreadable('FelixConfiguration', name)) return;
  const stored = draft.get('FelixConfiguration', name);
  if (stored?.spec.vxlanVNI !== undefined) return;
  const spec = { ...stored?.spec, vxlanVNI: chosenVni };
  draft.put(
    'FelixConfiguration',
    name,
    stored === undefined
      ? stamp({
          kind: 'FelixConfiguration',
          apiVersion: 'projectcalico.org/v3',
          metadata: { name },
          spec,
        })
      : { ...stored, spec },
  );
}

function hasTunnels(draft: Draft): boolean {
  const fields = Object.values(vxlanTunnels).map(({ field }) => field);
  for (const [, { spec }] of draft.entries('Node')) {
    if (fields.some((field) => (spec[field] ?? '') !== '')) return true;
  }
  return false;
}
