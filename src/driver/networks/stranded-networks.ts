import { withDeadline } from '../../async/deadline.ts';
import type { Mirror } from '../../cache/mirror.ts';
import type { DockerApi } from '../docker/docker-api.ts';
import type { NetworkInfo } from '../docker/messages.ts';
import { networkEntryId } from './networks.ts';

/** The names of the plain sockets, which both the daemon and the managed plugin serve. */
const plainNames: ReadonlySet<string> = new Set(['calico', 'calico-ipam', 'default']);

const answerMs = 1000;

/** A network of Docker whose containers cannot work. */
export interface StrandedNetwork {
  readonly name: string;
  readonly driver: string;
  /** Its driver is not available, or the datastore does not have the network. */
  readonly problem: 'driver not enabled' | 'not in datastore';
}

/**
 * Returns the Calico networks created with a managed plugin that is not enabled now: Docker binds a network to its
 * driver's name permanently, so it must be recreated. Returns those as well that this datastore does not have, because
 * they were created while the host had another one. Returns none while Docker is unavailable.
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
    const isStored = ({ Id }: NetworkInfo) =>
      mirror.get('DockerNetwork', networkEntryId(node, Id)) !== undefined;
    const drivers = new Set(['calico', ...networks.filter(isStored).map(({ Driver }) => Driver)]);
    return networks.flatMap((network): readonly StrandedNetwork[] => {
      const { Name, Driver, Scope, IPAM } = network;
      if (!isStored(network)) {
        const isOurs = Scope === 'local' && drivers.has(Driver);
        return isOurs ? [{ name: Name, driver: Driver, problem: 'not in datastore' }] : [];
      }
      const driver = [Driver, IPAM.Driver ?? 'default'].find((one) => !isServed(one));
      return driver === undefined ? [] : [{ name: Name, driver, problem: 'driver not enabled' }];
    });
  } catch {
    return [];
  }
}
