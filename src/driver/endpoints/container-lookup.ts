import { describe } from '../../errors/error.ts';
import { withDeadline } from '../../async/deadline.ts';
import type { ContainerInfo } from '../docker/messages.ts';
import type { DockerApi } from '../docker/docker-api.ts';
import type { Container } from './endpoint-policy.ts';

/** The container of an endpoint, or why Docker cannot name it now. */
export type ContainerLookup =
  | { readonly kind: 'found'; readonly networkName: string; readonly container: Container }
  | { readonly kind: 'unknown'; readonly why: string };

/** Time limit for Docker; while dockerd boots it never responds, and a longer wait would block it. */
const lookupMs = 2000;

/**
 * Queries Docker for the container of an endpoint: the network lists its endpoints with the names of their containers,
 * even during Join, and the list of containers has ID and labels. Both are requested at once, because the container is
 * usually a new one; only one that starts again is looked up by its name afterwards. Never throws.
 */
export async function lookUpContainer(
  docker: DockerApi,
  endpoint: { readonly networkId: string; readonly endpointId: string },
  signal: AbortSignal,
): Promise<ContainerLookup> {
  const deadline = withDeadline(signal, lookupMs);
  try {
    const [network, fresh] = await Promise.all([
      docker.network(endpoint.networkId, deadline),
      docker.newContainers(deadline),
    ]);
    const entry = Object.values(network?.Containers ?? {}).find(
      ({ EndpointID }) => EndpointID === endpoint.endpointId,
    );
    if (network === undefined || entry === undefined) {
      return { kind: 'unknown', why: 'Docker does not list the endpoint yet' };
    }
    const container =
      fresh.find(({ Names }) => Names.includes(`/${entry.Name}`)) ??
      (await docker.containerNamed(entry.Name, deadline));
    if (container === undefined) {
      return { kind: 'unknown', why: `Docker does not list the container ${entry.Name}` };
    }
    return {
      kind: 'found',
      networkName: network.Name,
      container: containerOf(container, entry.Name),
    };
  } catch (error) {
    return {
      kind: 'unknown',
      why: deadline.aborted ? 'Docker did not answer within 2 s' : describe(error),
    };
  }
}

/** The properties of a container that policy needs; `name` without Docker's leading slash. */
export function containerOf(info: ContainerInfo, name: string): Container {
  return {
    id: info.Id,
    name,
    labels: info.Labels,
  };
}
