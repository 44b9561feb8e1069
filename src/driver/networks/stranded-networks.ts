import { withDeadline } from '../../async/deadline.ts';
import type { Mirror } from '../../cache/mirror.ts';
import type { DockerApi } from '../docker/docker-api.ts';
import { networkEntryId } from './networks.ts';

/** The names of the plain sockets, which the daemon and the managed plugin both offer. */
const plainNames: ReadonlySet<string> = new Set(['calico', 'calico-ipam', 'default']);

const answerMs = 1000;

/** A network whose driver nobody serves. */
export interface StrandedNetwork {
  readonly name: string;
  readonly driver: string;
}

/**
 * Networks of ours that were made with a managed plugin which is not enabled now: Docker ties a network to its
 * driver's name for good, so nothing but making it again helps. None while Docker does not answer.
 */
export async function strandedNetworks(
  {
    docker,
    mirror,
    node,
  }: { readonly docker: DockerApi; readonly mirror: Mirror; readonly node: string },
  signal: AbortSignal,
): Promise<readonly StrandedNetwork[]> {
  const deadline = withDeadline(signal, answerMs);
  try {
    const [networks, plugins] = await Promise.all([
      docker.networks(deadline),
      docker.enabledPlugins(deadline),
    ]);
    // Of a network that Swarm makes by a node's configuration, Docker does not say who hands out the addresses.
    const isServed = (driver: string) =>
      driver === '' || plainNames.has(driver) || plugins.includes(driver);
    return networks
      .filter(({ Id }) => mirror.get('DockerNetwork', networkEntryId(node, Id)) !== undefined)
      .flatMap(({ Name, Driver, IPAM }) => {
        const driver = [Driver, IPAM.Driver ?? 'default'].find((one) => !isServed(one));
        return driver === undefined ? [] : [{ name: Name, driver }];
      });
  } catch {
    return [];
  }
}
