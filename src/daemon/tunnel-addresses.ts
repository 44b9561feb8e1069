import { backoffMs, pause } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import { Waiters } from '../async/waiters.ts';
import type { EntryChanges, Mirror } from '../cache/mirror.ts';
import { isMirrorLocked } from '../cache/lock.ts';
import { chooseVni, hasTunnels } from '../datastore/choose-vni.ts';
import type { Draft, Writer } from '../datastore/writer.ts';
import { isCalicoError } from '../errors/error.ts';
import type { IpAddress, IpFamily } from '../ip/address.ts';
import { keepTunnelAddress, tunnelTypes } from '../ipam/tunnels/tunnel-addresses.ts';
import { configurationsOf } from '../model/kinds/felix-configuration.ts';
import type { EntryKind } from '../model/kinds/index.ts';
import type { Stamp } from '../model/stamp.ts';
import {
  allTunnels,
  encapsulationTexts,
  tunnelOf,
  tunnelSettings,
  type Tunnel,
} from '../routing/tunnels.ts';
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
  const own = allTunnels.filter(({ family }) => families.includes(family));
  const writing = own.map(async (tunnel) => {
    const write = (choosesVni: boolean) =>
      writer.write((draft) => planTunnel(draft, { ...deps, choosesVni }, tunnel), signal);
    const { result } = await write(true).catch((error: unknown) => {
      // A node of a cluster cannot write settings of all nodes; without a VNI there, all use Felix's default.
      if (isCalicoError(error, 'datastore/denied')) return write(false);
      throw error;
    });
    const { before, address } = result;
    if (address === before) return;
    const what = address === undefined ? 'released' : 'allocated';
    log.info(`${encapsulationTexts[tunnel.encapsulation]} tunnel address ${what}`, {
      node,
      address: address ?? before,
    });
  });
  // The failure of one does not stop the others.
  await Promise.allSettled(writing);
  await Promise.all(writing);
}

/** A plan for the address of one tunnel, and for the VNI of the cluster before the first tunnel of VXLAN. */
export function planTunnel(
  draft: Draft,
  {
    node,
    now,
    stamp,
    choosesVni = true,
  }: Pick<TunnelAddressDeps, 'node' | 'now' | 'stamp'> & { readonly choosesVni?: boolean },
  { name, encapsulation }: Tunnel,
): { readonly before: string | undefined; readonly address: IpAddress | undefined } {
  const tunnel = tunnelTypes[name];
  const found = draft.get('Node', node);
  const stored = found && tunnel.recorded(found);
  const before = stored === '' ? undefined : stored;
  const [ofNode, ofAll] = configurationsOf(node);
  const { isAllowed } = tunnelSettings(
    draft.get('FelixConfiguration', ofNode),
    draft.get('FelixConfiguration', ofAll),
  );
  const isFirst = encapsulation === 'vxlan' && choosesVni && !hasTunnels(draft);
  const address = keepTunnelAddress(draft, {
    node,
    tunnel,
    isForPool: (pool) => isAllowed[encapsulation] && tunnelOf(pool)?.name === name,
    now: now(),
  });
  if (address !== undefined && isFirst) chooseVni(draft, stamp);
  return { before, address };
}
