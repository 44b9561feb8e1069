import { KeyedMutex } from '../../async/keyed-mutex.ts';
import type { Mirror } from '../../cache/mirror.ts';
import type { Draft, Writer } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { familyOf, type IpAddress } from '../../ip/address.ts';
import { parseInterfaceAddress } from '../../ip/cidr.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { endpointAddresses, type WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { AddressPlans } from '../networks/address-plans.ts';
import { lookUpContainer, type ContainerLookup } from './container-lookup.ts';
import type { DockerApi } from '../docker/docker-api.ts';
import { describeEndpoint } from './endpoint-description.ts';
import { endpointPolicy } from './endpoint-policy.ts';
import {
  annotation,
  endpointEntryId,
  hostInterfaceName,
  macFor,
  newEndpoint,
  temporaryInterfaceName,
} from './endpoint-record.ts';
import { joinResponse } from './join-response.ts';
import type { LocalEndpoints } from './local-endpoints.ts';
import type { Links } from '../../workload/links.ts';
import type {
  CreateEndpointRequest,
  EndpointRequest,
  JoinRequest,
  JoinResponse,
} from '../plugin/messages.ts';
import { dropOwnerlessProfiles } from '../networks/profiles-of-networks.ts';
import { networkEntryId } from '../networks/networks.ts';
import type { Stamp } from '../../model/stamp.ts';
import { selectionFromOptions } from './selection.ts';
import { shareTags } from './shared-tags.ts';

/** The endpoints of this host, as Docker makes, joins, leaves and removes them. Every call may be repeated. */
export interface Endpoints {
  /** Answers the MAC address if Docker did not give one. */
  create(request: CreateEndpointRequest, signal: AbortSignal): Promise<{ readonly mac?: string }>;
  /** Answers when the kernel holds the endpoint's policy and route. */
  join(request: JoinRequest, signal: AbortSignal): Promise<JoinResponse>;
  leave(request: EndpointRequest): void;
  remove(request: EndpointRequest, signal: AbortSignal): Promise<void>;
}

export interface EndpointsDeps {
  readonly node: string;
  readonly mirror: Mirror;
  readonly writer: Writer;
  readonly addresses: AddressPlans;
  readonly docker: DockerApi;
  readonly local: LocalEndpoints;
  readonly links: Links;
  readonly stamp: Stamp;
  readonly log: Logger;
  /** MTU of containers where their network does not say, in bytes. */
  readonly defaultMtuBytes: () => number;
  readonly interfacePrefix: string;
  /** Resolves when the kernel has what the datastore said of the endpoint at that revision. */
  readonly programmed: (endpointId: string, revision: bigint, signal: AbortSignal) => Promise<void>;
}

export function createEndpoints(deps: EndpointsDeps): Endpoints {
  const { node, mirror, writer, addresses, local, links, log } = deps;
  const oneAtATime = new KeyedMutex();
  const entryId = (endpointId: string) => endpointEntryId(node, endpointId);

  const create = async (request: CreateEndpointRequest, signal: AbortSignal) => {
    const given = request.Interface;
    const asked = {
      endpointId: request.EndpointID,
      networkId: request.NetworkID,
      addresses: parseAddresses(request),
      mac: given.MacAddress === undefined ? macFor(request.EndpointID) : parseMac(given.MacAddress),
      options: connectionOptions(request.Options),
    };
    await writer.write((draft) => createPlan(draft, asked), signal);
    return given.MacAddress === undefined ? { mac: asked.mac } : {};
  };

  const createPlan = (draft: Draft, asked: AskedEndpoint): void => {
    const { endpointId, networkId } = asked;
    const network = knownNetwork(draft, networkId);
    const existing = draft.get('WorkloadEndpoint', entryId(endpointId));
    if (existing !== undefined) {
      const held = endpointAddresses(existing);
      if (held.join() === asked.addresses.join()) return;
      throw new CalicoError('driver/endpoint-exists', {
        endpoint: endpointId,
        addresses: held.join(),
      });
    }
    addresses.bindEndpoint(draft, { node, network, endpointId, addresses: asked.addresses });
    const policy = endpointPolicy(network, selectionFromOptions(asked.options), undefined);
    const endpoint = newEndpoint({ node, network, ...asked }, policy);
    draft.put('WorkloadEndpoint', entryId(endpointId), deps.stamp(endpoint));
  };

  const knownNetwork = (draft: Draft, networkId: string): DockerNetwork => {
    const network = draft.get('DockerNetwork', networkEntryId(node, networkId));
    if (network === undefined)
      throw new CalicoError('driver/unknown-network', { network: networkId });
    return network;
  };

  const join = async (request: JoinRequest, signal: AbortSignal): Promise<JoinResponse> => {
    const { NetworkID: networkId, EndpointID: endpointId, SandboxKey: sandbox } = request;
    const looking = lookUpContainer(deps.docker, { networkId, endpointId }, signal);
    const { network, endpoint } = await joining(request, signal);
    // Docker is asked while the kernel makes the veth: neither needs the other.
    await links.createVeth({
      hostName: hostInterfaceName(endpointId),
      peerName: temporaryInterfaceName(endpointId),
      peerMac: endpoint.spec.mac ?? macFor(endpointId),
      mtuBytes: network.options.mtu ?? deps.defaultMtuBytes(),
      hasIpv6: endpointAddresses(endpoint).some((address) => familyOf(address) === 6),
    });
    const lookup = await looking;
    const { result: problems, revision } = await writer.write(
      (draft) =>
        describeEndpoint(draft, {
          id: entryId(endpointId),
          lookup,
          sandbox,
          ofSandbox: local.ofSandbox,
          stamp: deps.stamp,
        }),
      signal,
    );
    await deps.programmed(endpointId, revision, signal);
    reportJoin(endpoint, { lookup, problems });
    return joinResponse({
      network,
      addresses: endpointAddresses(endpoint),
      interfaceName: temporaryInterfaceName(endpointId),
      interfacePrefix: network.options.interfacePrefix ?? deps.interfacePrefix,
    });
  };

  /** What CreateEndpoint left for Join. Where the mirror is late with it, a plan waits for it. */
  const joining = async (request: JoinRequest, signal: AbortSignal) => {
    const { NetworkID: networkId, EndpointID: endpointId } = request;
    const known = {
      network: mirror.get('DockerNetwork', networkEntryId(node, networkId))?.value,
      endpoint: mirror.get('WorkloadEndpoint', entryId(endpointId))?.value,
    };
    if (known.network !== undefined && known.endpoint !== undefined) {
      return { network: known.network, endpoint: known.endpoint };
    }
    const plan = (draft: Draft) => {
      const network = knownNetwork(draft, networkId);
      const endpoint = draft.get('WorkloadEndpoint', entryId(endpointId));
      if (endpoint === undefined)
        throw new CalicoError('driver/unknown-endpoint', { endpoint: endpointId });
      return { network, endpoint };
    };
    return (await writer.write(plan, signal)).result;
  };

  const reportJoin = (
    endpoint: WorkloadEndpoint,
    {
      lookup,
      problems,
    }: { readonly lookup: ContainerLookup; readonly problems: readonly string[] },
  ): void => {
    const facts = {
      endpoint: endpoint.spec.endpoint,
      address: endpointAddresses(endpoint),
      interface: endpoint.spec.interfaceName,
    };
    if (lookup.kind === 'unknown') {
      log.warn('endpoint joined in quarantine: all its traffic is dropped', {
        ...facts,
        why: lookup.why,
      });
      return;
    }
    const container = lookup.container.name;
    log.info('endpoint joined', { container, network: lookup.networkName, ...facts });
    for (const problem of problems) log.warn('container label ignored', { container, problem });
  };

  const removePlan = (draft: Draft, endpointId: string): WorkloadEndpoint | undefined => {
    const endpoint = draft.get('WorkloadEndpoint', entryId(endpointId));
    if (endpoint === undefined) return undefined;
    draft.remove('WorkloadEndpoint', entryId(endpointId));
    const networkId = annotation(endpoint, 'network');
    const network = draft.get('DockerNetwork', networkEntryId(node, networkId ?? ''));
    const held = endpointAddresses(endpoint);
    if (network !== undefined) {
      addresses.releaseEndpoint(draft, { node, network, endpointId, addresses: held });
    }
    // Endpoints of ours always say their network; those of the plugin of 2019 never did.
    if (networkId === undefined) addresses.releaseAdopted(draft, held);
    const sandbox = annotation(endpoint, 'sandbox');
    if (sandbox !== undefined) shareTags(draft, local.ofSandbox(sandbox));
    // A network that went before its last endpoint could not take its Profiles with it.
    if (network === undefined) dropOwnerlessProfiles(draft, new Set(endpoint.spec.profiles));
    return endpoint;
  };

  const remove = async ({ EndpointID: endpointId }: EndpointRequest, signal: AbortSignal) => {
    links.removeVeth(hostInterfaceName(endpointId));
    const { result: removed } = await writer.write(
      (draft) => removePlan(draft, endpointId),
      signal,
    );
    if (removed === undefined) return;
    log.info('endpoint removed', {
      container: removed.spec.workload,
      endpoint: endpointId,
      address: endpointAddresses(removed),
    });
  };

  return {
    create: (request, signal) => oneAtATime.run(request.EndpointID, () => create(request, signal)),
    join: (request, signal) => oneAtATime.run(request.EndpointID, () => join(request, signal)),
    leave: ({ EndpointID }) => links.removeVeth(hostInterfaceName(EndpointID)),
    remove: (request, signal) => oneAtATime.run(request.EndpointID, () => remove(request, signal)),
  };
}

/** A CreateEndpoint request, parsed. */
interface AskedEndpoint {
  readonly endpointId: string;
  readonly networkId: string;
  readonly addresses: readonly IpAddress[];
  readonly mac: string;
  readonly options: Readonly<Record<string, unknown>>;
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

/** The options that the user gave to the connection; refused here, where Docker shows why. */
function connectionOptions(
  options: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  const own = Object.fromEntries(
    Object.entries(options).filter(([key]) => !key.startsWith('com.docker.')),
  );
  selectionFromOptions(own);
  return own;
}
