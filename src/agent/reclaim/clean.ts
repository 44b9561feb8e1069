import { AddressSets } from '../../dataplane/address-sets.ts';
import type { Ipv6Forwarding } from '../../dataplane/host-settings.ts';
import { isLegacyLoaded } from '../../dataplane/iptables/backend.ts';
import { idleChains } from '../../dataplane/iptables/save-parser.ts';
import { IptablesTables, type Backend } from '../../dataplane/iptables/tables.ts';
import { deleteLinkElsewhere, listLinks } from '../../dataplane/netlink/link.ts';
import { removeEmpty } from '../../dataplane/netlink/nftables-tables.ts';
import { ToolRunner } from '../../dataplane/process.ts';
import { Routes } from '../../dataplane/routes.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpFamily } from '../../ip/address.ts';
import { openKernelSockets, type KernelSockets } from '../../dataplane/kernel-sockets.ts';
import { isHostEnd } from '../../workload/interfaces.ts';

/**
 * Removes all of ours from the kernel of this host: chains of both iptables, address sets, routes, interfaces;
 * and puts back the settings of the host but for those to keep. For uninstalling, when the daemon does not run
 * any more. Throws `kernel/not-cleaned` if something could not be removed; the rest is.
 */
export async function cleanHost(
  ipv6Forwarding: Ipv6Forwarding,
  keep: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<void> {
  const runner = new ToolRunner();
  const sockets = openKernelSockets();
  try {
    const backends: readonly Backend[] = isLegacyLoaded() ? ['nft', 'legacy'] : ['nft'];
    for (const backend of backends) {
      for (const family of [4, 6] as const) {
        await new IptablesTables(runner, { family, backend }).apply(signal);
        if (backend === 'nft') await removeIdleChains(family);
      }
    }
    const sets = new AddressSets(sockets.ipset);
    sets.resync();
    sets.applyAdditions();
    sets.applyRemovals();
    const routes = new Routes(sockets.rtnetlink, async () => undefined);
    routes.resync();
    await routes.apply();
    await removeLinks(sockets);
    ipv6Forwarding.switchBack(keep);
    const [left] = [...sets.failures(), ...routes.failures()];
    if (left !== undefined) throw new CalicoError('kernel/not-cleaned', left);
  } finally {
    sockets.close();
  }

  /** iptables-nft makes the kernel's chains when they are needed, and leaves them when they are not. */
  async function removeIdleChains(family: IpFamily): Promise<void> {
    const save = `${family === 4 ? 'iptables' : 'ip6tables'}-nft-save`;
    const { stdout } = await runner.run([save], { debianPackage: 'iptables' }, signal);
    for (const [name, chains] of idleChains(stdout)) {
      removeEmpty(sockets.netfilter, family, { name, chains });
    }
  }
}

async function removeLinks({ rtnetlink, removals }: KernelSockets): Promise<void> {
  for (const link of listLinks(rtnetlink).filter(isHostEnd)) {
    await deleteLinkElsewhere(removals, link.name);
  }
}
