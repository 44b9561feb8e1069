import type { Mirror } from '../../cache/mirror.ts';
import type { DockerApi } from '../../driver/docker/docker-api.ts';
import { strandedNetworks, type StrandedNetwork } from '../../driver/networks/stranded-networks.ts';
import { virtualAddresses, type VirtualAddress } from '../../driver/networks/swarm-services.ts';
import type { Check } from '../../telemetry/status-report.ts';

/** What `status` says of the two ways to run on a host, as a daemon or as a managed plugin, and of Swarm. */

/** The other way wanted to serve this host as well. */
export function installChecks(refusal: string | undefined): readonly Check[] {
  if (refusal === undefined) return [];
  return [
    {
      name: 'duplicate installation',
      ok: false,
      detail: refusal,
      remedy: 'Disable one of the two installations.',
    },
  ];
}

/** What Docker has that cannot work with us; nothing while it does not answer. */
export async function dockerChecks(
  from: { readonly docker: DockerApi; readonly mirror: Mirror; readonly node: string },
  signal: AbortSignal,
): Promise<readonly Check[]> {
  const [stranded, virtual] = await Promise.all([
    strandedNetworks(from, signal),
    virtualAddresses(from, signal),
  ]);
  return [...stranded.map(strandedCheck), ...virtual.map(virtualAddressCheck)];
}

/** A network that only a plugin of another name can serve. */
function strandedCheck({ name, driver }: StrandedNetwork): Check {
  return {
    name: `network ${name}`,
    ok: false,
    detail: `driver ${driver} is not enabled`,
    remedy: `Enable ${driver}, or recreate the network with --driver calico.`,
  };
}

/** A service that cannot be reached by its name. */
function virtualAddressCheck({ service, address }: VirtualAddress): Check {
  return {
    name: `service ${service}`,
    ok: false,
    detail: `virtual address ${address} is unreachable: Docker implements service VIPs on overlay networks only`,
    remedy: `Create the service with --endpoint-mode dnsrr, or use the name tasks.${service}.`,
  };
}
