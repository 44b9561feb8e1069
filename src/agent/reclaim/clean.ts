import { AddressSets } from '../../dataplane/address-sets.ts';
import { linkCalls, Links } from '../../dataplane/tunnels/links.ts';
import type { Ipv6Forwarding } from '../../dataplane/host-settings.ts';
import { isLegacyLoaded } from '../../dataplane/iptables/backend.ts';
import { idleChains } from '../../dataplane/iptables/save-parser.ts';
import { IptablesTables, type Backend } from '../../dataplane/iptables/tables.ts';
import { deleteLinkOffThread, listLinks, type Link } from '../../dataplane/netlink/link.ts';
import { removeEmpty } from '../../dataplane/netlink/nftables-tables.ts';
import { ToolRunner } from '../../dataplane/process.ts';
import { Routes } from '../../dataplane/routes/routes.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpFamily } from '../../ip/address.ts';
import { openKernelSockets } from '../../dataplane/kernel-sockets.ts';
import { isHostEnd } from '../../workload/interfaces.ts';
import { ownLinks } from '../link-drivers.ts';

/** The kernel state to clean, and how. */
export interface HostToClean {
  /** One step per iptables backend and family; removes all chains of calico-cnm. */
  readonly tables: readonly ((signal: AbortSignal) => Promise<void>)[];
  readonly sets: Pick<AddressSets, 'resync' | 'applyAdditions' | 'applyRemovals' | 'failures'>;
  readonly routes: Pick<Routes, 'resync' | 'apply' | 'failures'>;
  /** Without desired ones. */
  readonly tunnels: Pick<Links, 'apply' | 'failures'>;
  readonly links: () => readonly Link[];
  readonly deleteLink: (name: string) => Promise<void>;
  readonly ipv6Forwarding: Pick<Ipv6Forwarding, 'switchBack'>;
}

/**
 * Removes everything of calico-cnm from the kernel of a host (chains of both iptables backends, address sets, routes,
 * interfaces) and restores the host's settings except those to keep. For uninstalling, while the daemon is stopped.
 * Throws `kernel/not-cleaned` if something could not be removed; the rest is removed.
 */
export async function cleanHost(
  host: HostToClean,
  keep: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<void> {
  const { sets, routes } = host;
  // Rules first, because they name the sets.
  for (const clean of host.tables) await clean(signal);
  sets.resync();
  sets.applyAdditions();
  sets.applyRemovals();
  routes.resync();
  await routes.apply();
  host.tunnels.apply();
  for (const { name } of host.links().filter(isHostEnd)) await host.deleteLink(name);
  host.ipv6Forwarding.switchBack(keep);
  const [left] = [...sets.failures(), ...routes.failures(), ...host.tunnels.failures()];
  if (left !== undefined) throw new CalicoError('kernel/not-cleaned', left);
}

/** `cleanHost` for the network namespace of this process. */
export async function cleanThisHost(
  ipv6Forwarding: Ipv6Forwarding,
  keep: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<void> {
  const runner = new ToolRunner();
  const sockets = openKernelSockets();
  const { rtnetlink, removals, netfilter, ipset } = sockets;
  const backends: readonly Backend[] = isLegacyLoaded() ? ['nft', 'legacy'] : ['nft'];
  const host: HostToClean = {
    tables: backends.flatMap((backend) =>
      ([4, 6] as const).map((family) => async (stop: AbortSignal) => {
        await new IptablesTables(runner, { family, backend }).apply(stop);
        if (backend === 'nft') await removeIdleChains(family, stop);
      }),
    ),
    sets: new AddressSets(ipset),
    routes: new Routes(rtnetlink, async () => undefined),
    tunnels: new Links(linkCalls(rtnetlink, sockets.libc), ownLinks),
    links: () => listLinks(rtnetlink),
    deleteLink: (name) => deleteLinkOffThread(removals, name),
    ipv6Forwarding,
  };
  try {
    await cleanHost(host, keep, signal);
  } finally {
    sockets.close();
  }

  /** iptables-nft creates the kernel's chains when needed, and never deletes them. */
  async function removeIdleChains(family: IpFamily, stop: AbortSignal): Promise<void> {
    const save = `${family === 4 ? 'iptables' : 'ip6tables'}-nft-save`;
    const { stdout } = await runner.run([save], { debianPackage: 'iptables' }, stop);
    for (const [name, chains] of idleChains(stdout)) {
      removeEmpty(netfilter, family, { name, chains });
    }
  }
}
