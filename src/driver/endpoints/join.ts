import { endpointOf, mirroredEndpoint } from '../../cache/endpoint-lookup.ts';
import { CalicoError } from '../../errors/error.ts';
import { namespaceOfNetwork, type DockerNetwork } from '../../model/kinds/docker-network.ts';
import {
  endpointAddresses,
  endpointEntryId,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import type { Logger } from '../../telemetry/log.ts';
import { attach } from '../../workload/attach.ts';
import { temporaryInterfaceName } from '../../workload/interfaces.ts';
import { networkEntryId } from '../networks/networks.ts';
import type { JoinRequest, JoinResponse } from '../plugin/messages.ts';
import { lookUpContainer, type ContainerLookup } from './container-lookup.ts';
import { describeEndpoint } from './endpoint-description.ts';
import { knownNetwork, type EndpointsDeps } from './endpoints-deps.ts';
import { joinResponse } from './join-response.ts';

/**
 * Links the container to the host, with its policy, and returns Docker's instructions for the container's end. Docker
 * is queried for the container of the endpoint while the kernel creates the veth; if it cannot name it, the endpoint
 * joins in quarantine. Throws `driver/unknown-network`, `driver/unknown-endpoint`, `kernel/not-programmed`.
 */
export async function join(
  deps: EndpointsDeps,
  request: JoinRequest,
  signal: AbortSignal,
): Promise<JoinResponse> {
  const { NetworkID: networkId, EndpointID: endpointId, SandboxKey: sandbox } = request;
  const looking = lookUpContainer(deps.docker, { networkId, endpointId }, signal);
  const { network, endpoint } = await created(deps, request, signal);
  const { facts: lookup, result: problems } = await attach(
    deps,
    {
      endpoint,
      mtuBytes: network.options.mtu ?? deps.defaultMtuBytes(endpointAddresses(endpoint)),
      facts: looking,
      write: (draft, lookup) => {
        const id = endpointEntryId(deps.node, endpointId, namespaceOfNetwork(network));
        const { ofSandbox } = deps.local;
        const { addresses, stamp, isTaken } = deps;
        const what = { id, lookup, sandbox, ofSandbox, stamp, addresses, isTaken };
        return describeEndpoint(draft, what);
      },
    },
    signal,
  );
  report(deps.log, endpoint, { lookup, problems });
  return joinResponse({
    network,
    addresses: endpointAddresses(endpoint),
    interfaceName: temporaryInterfaceName(endpointId),
    interfacePrefix: network.options.interfacePrefix ?? deps.interfacePrefix,
  });
}

interface Created {
  readonly network: DockerNetwork;
  readonly endpoint: WorkloadEndpoint;
}

/** Returns the endpoint that CreateEndpoint wrote. If the mirror does not have it yet, a plan waits for it. */
async function created(
  { node, mirror, writer }: EndpointsDeps,
  { NetworkID: networkId, EndpointID: endpointId }: JoinRequest,
  signal: AbortSignal,
): Promise<Created> {
  const network = mirror.get('DockerNetwork', networkEntryId(node, networkId))?.value;
  const endpoint = mirroredEndpoint(mirror, node, endpointId);
  if (network !== undefined && endpoint !== undefined) return { network, endpoint };
  const { result } = await writer.write((draft) => {
    const found = endpointOf(draft, node, endpointId)?.endpoint;
    const ofNetwork = knownNetwork(draft, { node, networkId });
    if (found === undefined) {
      throw new CalicoError('driver/unknown-endpoint', { endpoint: endpointId });
    }
    return { network: ofNetwork, endpoint: found };
  }, signal);
  return result;
}

function report(
  log: Logger,
  endpoint: WorkloadEndpoint,
  told: { readonly lookup: ContainerLookup; readonly problems: readonly string[] },
): void {
  const { lookup, problems } = told;
  const facts = {
    endpoint: endpoint.spec.endpoint,
    address: endpointAddresses(endpoint),
    interface: endpoint.spec.interfaceName,
  };
  if (lookup.kind === 'unknown') {
    const { why } = lookup;
    log.warn('endpoint joined in quarantine (all traffic dropped)', { ...facts, why });
    return;
  }
  const container = lookup.container.name;
  log.info('endpoint joined', { container, network: lookup.networkName, ...facts });
  for (const problem of problems) log.warn('container label ignored', { container, problem });
}
