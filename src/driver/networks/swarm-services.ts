import { withDeadline } from '../../async/deadline.ts';
import type { Mirror } from '../../cache/mirror.ts';
import type { DockerApi } from '../docker/docker-api.ts';

const answerMs = 1000;

/** A service with an unreachable address. */
export interface VirtualAddress {
  readonly service: string;
  readonly address: string;
}

/**
 * Returns the virtual addresses of Swarm services on Calico networks. Docker implements them on overlay networks only,
 * and does not tell the driver which addresses are virtual. Returns none on a host that is not a manager, and while
 * Docker or the datastore is unavailable.
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
