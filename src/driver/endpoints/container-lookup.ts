import { describe } from '../../errors/error.ts';
import { withDeadline } from '../../async/deadline.ts';
import type { ContainerInfo } from '../docker/messages.ts';
import type { DockerApi } from '../docker/docker-api.ts';
import type { Container } from './endpoint-policy.ts';

/** Whose endpoint it is; or why Docker cannot say so now. */
export type ContainerLookup =
  | { readonly kind: 'found'; readonly networkName: string; readonly container: Container }
  | { readonly kind: 'unknown'; readonly why: string };

/** How long Docker may take; while dockerd boots it never answers, and waiting longer would block it. */
const lookupMs = 2000;

/**
 * Asks Docker which container an endpoint belongs to: the network lists its endpoints with the names of their
 * containers, already while Join runs, and the list of containers has ID and labels. Never throws.
 */
export async function lookUpContainer(
  docker: DockerApi,
  endpoint: { readonly networkId: string; readonly endpointId: string },
  signal: AbortSignal,
): Promise<ContainerLookup> {
  const deadline = withDeadline(signal, lookupMs);
  try {
    const network = await docker.network(endpoint.networkId, deadline);
    const entry = Object.values(network?.Containers ?? {}).find(
      ({ EndpointID }) => EndpointID === endpoint.endpointId,
    );
    if (network === undefined || entry === undefined) {
      return { kind: 'unknown', why: 'Docker does not list the endpoint yet' };
    }
    const container = await docker.containerNamed(entry.Name, deadline);
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

/** What policy needs of a container; `name` without Docker's leading slash. */
export function containerOf(info: ContainerInfo, name: string): Container {
  return {
    id: info.Id,
    name,
    labels: info.Labels,
  };
}
