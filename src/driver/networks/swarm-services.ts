import { withDeadline } from '../../async/deadline.ts';
import type { Mirror } from '../../cache/mirror.ts';
import type { DockerApi } from '../docker/docker-api.ts';

const answerMs = 1000;

/** A service with an address that leads nowhere. */
export interface VirtualAddress {
  readonly service: string;
  readonly address: string;
}

/**
 * Virtual addresses that Swarm gave its services on networks of ours. Docker sets up what stands behind such an
 * address on overlay networks alone, and does not tell the driver which addresses are virtual. None on a host that
 * is no manager, and while Docker or the datastore does not answer.
 */
export async function virtualAddresses(
  { docker, mirror }: { readonly docker: DockerApi; readonly mirror: Mirror },
  signal: AbortSignal,
): Promise<readonly VirtualAddress[]> {
  if (!mirror.inSync) return [];
  const networks = new Set(
    [...mirror.list('DockerPool').values()].flatMap(({ value }) => value.swarm?.network ?? []),
  );
  if (networks.size === 0) return [];
  try {
    const services = await docker.services(withDeadline(signal, answerMs));
    return services.flatMap(({ Spec, Endpoint }) =>
      Endpoint.VirtualIPs.filter(({ NetworkID }) => networks.has(NetworkID)).map(({ Addr }) => ({
        service: Spec.Name,
        address: Addr.replace(/\/\d+$/, ''),
      })),
    );
  } catch {
    return [];
  }
}
