import type { Mirror } from '../../cache/mirror.ts';
import type { DockerApi } from '../../driver/docker/docker-api.ts';
import { strandedNetworks, type StrandedNetwork } from '../../driver/networks/stranded-networks.ts';
import { virtualAddresses, type VirtualAddress } from '../../driver/networks/swarm-services.ts';
import type { Check } from '../../telemetry/status-report.ts';

/** Status checks of the installation (daemon or managed plugin), of Docker's networks and of Swarm services. */

/** Reports a duplicate installation: `conflict` describes the other one. */
export function installChecks(conflict: string | undefined): readonly Check[] {
  if (conflict === undefined) return [];
  return [
    {
      name: 'duplicate installation',
      ok: false,
      detail: conflict,
      remedy: 'Disable one of the two installations.',
    },
  ];
}

/** Returns checks of Docker's networks and services that cannot work; none while Docker does not respond. */
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

/** A network whose driver has another plugin name, or that another datastore has. */
function strandedCheck({ name, driver, problem }: StrandedNetwork): Check {
  if (problem === 'not in datastore') {
    return {
      name: `network ${name}`,
      ok: false,
      detail: 'not in this datastore: its containers have no connectivity',
      remedy: `Remove its containers and run docker network rm ${name}, then create both again.`,
    };
  }
  return {
    name: `network ${name}`,
    ok: false,
    detail: `driver ${driver} is not enabled`,
    remedy: `Enable ${driver}, or recreate the network with --driver calico.`,
  };
}

/** A Swarm service that is unreachable by its name. */
function virtualAddressCheck({ service, address }: VirtualAddress): Check {
  return {
    name: `service ${service}`,
    ok: false,
    detail: `virtual address ${address} is unreachable: Docker implements service VIPs on overlay networks only`,
    remedy: `Create the service with --endpoint-mode dnsrr, or use the name tasks.${service}.`,
  };
}
