import { AddressSets } from '../dataplane/address-sets.ts';
import { isLegacyLoaded } from '../dataplane/iptables/backend.ts';
import { IptablesTables, type Backend } from '../dataplane/iptables/tables.ts';
import { ToolRunner } from '../dataplane/process.ts';
import { Routes } from '../dataplane/routes.ts';
import { openKernelSockets } from './kernel-sockets.ts';

/**
 * Removes all of ours from the kernel of this host: chains of both iptables, address sets, routes. For
 * uninstalling, when the daemon does not run any more.
 */
export async function cleanHost(signal: AbortSignal): Promise<void> {
  const runner = new ToolRunner();
  const sockets = openKernelSockets();
  try {
    const backends: readonly Backend[] = isLegacyLoaded() ? ['nft', 'legacy'] : ['nft'];
    for (const backend of backends) {
      for (const family of [4, 6] as const) {
        await new IptablesTables(runner, { family, backend }).apply(signal);
      }
    }
    const sets = new AddressSets(sockets.ipset);
    sets.resync();
    sets.applyAdditions();
    sets.applyRemovals();
    const routes = new Routes(sockets.rtnetlink);
    routes.resync();
    routes.apply();
  } finally {
    sockets.close();
  }
}
