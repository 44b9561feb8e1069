import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpAddress } from '../../ip/address.ts';
import { parseInterfaceAddress } from '../../ip/cidr.ts';
import { namespaceOfNetwork } from '../../model/kinds/docker-network.ts';
import { dockerAddresses, endpointEntryId } from '../../model/kinds/workload-endpoint.ts';
import { macFor } from '../../workload/interfaces.ts';
import type { CreateEndpointRequest } from '../plugin/messages.ts';
import { checkNotRemoving } from '../networks/definition-plans.ts';
import { endpointPolicy } from './endpoint-policy.ts';
import { newEndpoint } from './endpoint-record.ts';
import { knownNetwork, type EndpointsDeps } from './endpoints-deps.ts';
import { extrasFromOptions, withExtras } from './extra-addresses.ts';
import { selectionFromOptions } from './selection.ts';

/** A CreateEndpoint request, parsed. */
interface AskedEndpoint {
  readonly endpointId: string;
  readonly networkId: string;
  readonly addresses: readonly IpAddress[];
  readonly mac: string;
  readonly options: Readonly<Record<string, unknown>>;
}

/**
 * Writes the endpoint and binds its addresses to it; Join adds the container. Returns the MAC address if Docker did
 * not give one. Throws `driver/unknown-network`, `driver/endpoint-exists` (with other addresses), and errors of the
 * request.
 */
export async function createEndpoint(
  deps: EndpointsDeps,
  request: CreateEndpointRequest,
  signal: AbortSignal,
): Promise<{ readonly mac?: string }> {
  const { MacAddress: given } = request.Interface;
  const asked: AskedEndpoint = {
    endpointId: request.EndpointID,
    networkId: request.NetworkID,
    addresses: parseAddresses(request),
    mac: given === undefined ? macFor(request.EndpointID) : parseMac(given),
    options: connectionOptions(request.Options),
  };
  await deps.writer.write((draft) => createPlan(deps, draft, asked), signal);
  return given === undefined ? { mac: asked.mac } : {};
}

function createPlan(
  { node, addresses, stamp, isTaken }: EndpointsDeps,
  draft: Draft,
  asked: AskedEndpoint,
): void {
  const { endpointId, networkId } = asked;
  const network = knownNetwork(draft, { node, networkId });
  const id = endpointEntryId(node, endpointId, namespaceOfNetwork(network));
  const existing = draft.get('WorkloadEndpoint', id);
  if (existing !== undefined) {
    const held = dockerAddresses(existing).join();
    if (held === asked.addresses.join()) return;
    throw new CalicoError('driver/endpoint-exists', { endpoint: endpointId, addresses: held });
  }
  checkNotRemoving(draft, network.name);
  addresses.bindEndpoint(draft, { node, network, endpointId, addresses: asked.addresses });
  const policy = endpointPolicy(network, selectionFromOptions(asked.options), { isTaken });
  const endpoint = withExtras(draft, newEndpoint({ node, network, ...asked }, policy), {
    network,
    extras: extrasFromOptions(asked.options),
    plans: addresses,
  });
  draft.put('WorkloadEndpoint', id, stamp(endpoint));
}

function parseAddresses({ Interface, NetworkID }: CreateEndpointRequest): readonly IpAddress[] {
  const given = [Interface.Address, Interface.AddressIPv6].filter((text) => text !== undefined);
  if (given.length === 0) throw new CalicoError('driver/no-address', { network: NetworkID });
  return given.map((text) => parseInterfaceAddress(text).address);
}

function parseMac(mac: string): string {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac))
    throw new CalicoError('driver/bad-mac', { mac });
  return mac.toLowerCase();
}

/** The user's options of the connection; rejected here, where Docker shows the error. */
function connectionOptions(
  options: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  const own = Object.fromEntries(
    Object.entries(options).filter(([key]) => !key.startsWith('com.docker.')),
  );
  selectionFromOptions(own);
  extrasFromOptions(own);
  return own;
}
