import { withDeadline } from '../../async/deadline.ts';
import type { Mirror } from '../../cache/mirror.ts';
import type { DockerApi } from '../docker/docker-api.ts';
import { networkEntryId } from './networks.ts';

/** The names of the plain sockets, which both the daemon and the managed plugin serve. */
const plainNames: ReadonlySet<string> = new Set(['calico', 'calico-ipam', 'default']);

const answerMs = 1000;

/** A network whose driver is not available. */
export interface StrandedNetwork {
  readonly name: string;
  readonly driver: string;
}

/**
 * Returns the Calico networks created with a managed plugin that is not enabled now: Docker binds a network to its
 * driver's name permanently, so it must be recreated. Returns none while Docker is unavailable.
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
    // Docker does not name the IPAM driver of a network that Swarm creates from a node's configuration.
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
