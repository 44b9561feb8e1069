import { isDeepStrictEqual } from 'node:util';
import { pause, withDeadline } from '../../async/deadline.ts';
import { writeAll } from '../../datastore/steps.ts';
import type { Draft, Writer } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpFamily } from '../../ip/address.ts';
import { parseCidr, parseInterfaceAddress } from '../../ip/cidr.ts';
import { parseAddress } from '../../ip/address.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { isDefaultAllow } from '../../model/kinds/profile.ts';
import { resourceNameFor } from '../../model/names.ts';
import type { AddressPlans, RequestedSubnet } from './address-plans.ts';
import type { CreateNetworkRequest } from '../plugin/messages.ts';
import { parseNetworkOptions, type CreateOptions } from './network-options.ts';
import { dropNetworkProfiles, ensureNetworkProfiles } from './network-profiles.ts';
import type { Stamp } from '../../model/stamp.ts';

/** How often it is tried whether a cluster permits a namespace, in milliseconds. */
const namespacePollMs = 100;

const genericKey = 'com.docker.network.generic';
const internalKey = 'com.docker.network.internal';
const ipv4Key = 'com.docker.network.enable_ipv4';
const ipv6Key = 'com.docker.network.enable_ipv6';

/** Creates and removes the networks of this host for Docker. All calls are idempotent. */
export interface Networks {
  create(request: CreateNetworkRequest, signal: AbortSignal): Promise<void>;
  remove(networkId: string, signal: AbortSignal): Promise<void>;
  /** For Swarm's manager: the network will exist on any host that runs a task of it. */
  allocate(request: CreateNetworkRequest, signal: AbortSignal): Promise<void>;
  /** For Swarm's manager: the network was removed. */
  free(networkId: string, signal: AbortSignal): Promise<void>;
  /** Records Docker's name of a Calico network, and creates its Profile; unknown IDs are ignored. */
  learnName(networkId: string, name: string, signal: AbortSignal): Promise<void>;
}

export interface NetworksDeps {
  readonly node: string;
  readonly writer: Writer;
  readonly addresses: AddressPlans;
  readonly stamp: Stamp;
  /** Reports whether this host may write its endpoints of a namespace, which a cluster permits when it has a network there. */
  readonly mayUseNamespace: (namespace: string, signal: AbortSignal) => Promise<boolean>;
  /** How long the cluster may take to permit it, in milliseconds. */
  readonly namespaceMs?: number;
  /** Whether a network whose options name no Profiles gets the Profile of its name; otherwise it has none. */
  readonly createProfiles: boolean;
}

/** Returns the datastore ID of a network of a host. */
export function networkEntryId(node: string, networkId: string): string {
  return `${node}/${networkId}`;
}

export function createNetworks(deps: NetworksDeps): Networks {
  const { node, writer, addresses, stamp, mayUseNamespace, namespaceMs = 10_000 } = deps;
  const id = (networkId: string) => networkEntryId(node, networkId);

  const createPlan = (draft: Draft, request: CreateNetworkRequest, asked: AskedNetwork): void => {
    const existing = draft.get('DockerNetwork', id(request.NetworkID));
    if (existing !== undefined) {
      if (!isSameNetwork(existing, asked)) {
        throw new CalicoError('driver/network-differs', { network: request.NetworkID });
      }
      if (hasSameGateways(existing, asked)) return;
      // Docker keeps no Swarm network over its restart: it requests the pools again and recreates the network.
    }
    const { create, subnets, ...facts } = asked;
    if (existing === undefined) expectProfiles(draft, create.options.profiles ?? []);
    const adopted = addresses.adoptSubnets(draft, { node, networkId: request.NetworkID, subnets });
    const nextHop4 = create.nextHop4 ?? adopted.nextHop4;
    const nextHop6 = create.nextHop6 ?? adopted.nextHop6;
    const name = create.name ?? existing?.name;
    const network: DockerNetwork = {
      id: request.NetworkID,
      node,
      ...facts,
      ipam: adopted.ipam,
      subnets: [...adopted.subnets],
      options: create.options,
      ...(name === undefined ? {} : { name }),
      ...(nextHop4 === undefined ? {} : { nextHop4 }),
      ...(nextHop6 === undefined ? {} : { nextHop6 }),
    };
    draft.put('DockerNetwork', id(network.id), network);
    ensureNetworkProfiles(draft, network, stamp);
  };

  const remove = async (networkId: string, signal: AbortSignal): Promise<void> => {
    await writeAll(
      writer,
      (draft) => {
        const network = draft.get('DockerNetwork', id(networkId));
        if (network === undefined) return 'done';
        if (addresses.dropSubnets(draft, network) === 'more') return 'more';
        draft.remove('DockerNetwork', id(networkId));
        dropNetworkProfiles(draft, network);
        return 'done';
      },
      signal,
    );
  };
  /** Of the first network of this host in a namespace, a member of the cluster hears only now. */
  const isPermitted = async (namespace: string, signal: AbortSignal): Promise<boolean> => {
    const stop = withDeadline(signal, namespaceMs);
    for (;;) {
      if (await mayUseNamespace(namespace, signal)) return true;
      await pause(namespacePollMs, stop);
      if (stop.aborted) return false;
    }
  };

  return {
    create: async (request, signal) => {
      const asked = askedNetwork(request, deps);
      await writer.write((draft) => createPlan(draft, request, asked), signal);
      const { namespace } = asked.create.options;
      if (namespace === undefined || (await isPermitted(namespace, signal))) return;
      await remove(request.NetworkID, signal);
      throw new CalicoError('driver/namespace-denied', { namespace, node });
    },
    remove,
    allocate: async (request, signal) => {
      const allocated = { node, networkId: request.NetworkID, subnets: requestedSubnets(request) };
      await writer.write((draft) => addresses.allocateNetwork(draft, allocated), signal);
    },
    free: async (networkId, signal) => {
      await writeAll(writer, (draft) => addresses.freeNetwork(draft, node, networkId), signal);
    },
    learnName: async (networkId, name, signal) => {
      await writer.write((draft) => nameNetwork(draft, { id: id(networkId), name, stamp }), signal);
    },
  };
}

/** Sets the name of a network if it changed, and returns the network. */
export function nameNetwork(
  draft: Draft,
  options: { readonly id: string; readonly name: string; readonly stamp: Stamp },
): DockerNetwork | undefined {
  const network = draft.get('DockerNetwork', options.id);
  if (network === undefined || network.name === options.name) return network;
  const named = { ...network, name: options.name };
  draft.put('DockerNetwork', options.id, named);
  ensureNetworkProfiles(draft, named, options.stamp);
  return named;
}

/**
 * Throws `driver/no-such-profile` for a Profile that a new network would name and that does not exist: its containers
 * would be denied everything. Docker shows no other response to CreateNetwork than an error, so rejecting is the only
 * way to report it immediately. Anyone who deletes a Profile at this moment finds the new network.
 */
function expectProfiles(draft: Draft, dockerNames: readonly string[]): void {
  for (const profile of dockerNames) {
    const name = resourceNameFor(profile);
    if (isDefaultAllow(name)) continue;
    if (draft.get('Profile', name) === undefined) {
      throw new CalicoError('driver/no-such-profile', { profile });
    }
    draft.expect('Profile', name);
  }
}

/** A CreateNetwork request, parsed. */
interface AskedNetwork {
  readonly internal: boolean;
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  readonly subnets: readonly RequestedSubnet[];
  readonly create: CreateOptions;
}

function askedNetwork(
  request: CreateNetworkRequest,
  { createProfiles }: Pick<NetworksDeps, 'createProfiles'>,
): AskedNetwork {
  const generic: unknown = request.Options[genericKey];
  const create = parseNetworkOptions(
    typeof generic === 'object' && generic !== null ? { ...generic } : {},
  );
  const options = createProfiles ? create.options : { profiles: [], ...create.options };
  return {
    internal: request.Options[internalKey] === true,
    ipv4: request.Options[ipv4Key] !== false && request.IPv4Data.length > 0,
    ipv6: request.Options[ipv6Key] === true && request.IPv6Data.length > 0,
    subnets: requestedSubnets(request),
    create: { ...create, options },
  };
}

function requestedSubnets({
  IPv4Data,
  IPv6Data,
}: CreateNetworkRequest): readonly RequestedSubnet[] {
  return [
    ...IPv4Data.map((data) => requestedSubnet(4, data)),
    ...IPv6Data.map((data) => requestedSubnet(6, data)),
  ];
}

function requestedSubnet(
  family: IpFamily,
  data: CreateNetworkRequest['IPv4Data'][number],
): RequestedSubnet {
  return {
    family,
    addressSpace: data.AddressSpace,
    cidr: parseCidr(data.Pool),
    gateway: data.Gateway === undefined ? undefined : parseInterfaceAddress(data.Gateway).address,
    auxiliary: Object.fromEntries(
      Object.entries(data.AuxAddresses).map(([name, text]) => [
        name,
        text.includes('/') ? parseInterfaceAddress(text).address : parseAddress(text),
      ]),
    ),
  };
}

/** Reports whether a repeated CreateNetwork has the pools of the network. */
function hasSameGateways(existing: DockerNetwork, asked: AskedNetwork): boolean {
  return isDeepStrictEqual(
    existing.subnets.map(({ gateway }) => gateway),
    asked.subnets.map(({ gateway }) => gateway),
  );
}

/** Reports whether a repeated CreateNetwork equals the first one. */
function isSameNetwork(existing: DockerNetwork, asked: AskedNetwork): boolean {
  return (
    existing.internal === asked.internal &&
    existing.ipv4 === asked.ipv4 &&
    existing.ipv6 === asked.ipv6 &&
    isDeepStrictEqual(existing.options, asked.create.options) &&
    isDeepStrictEqual(
      existing.subnets.map(({ cidr }) => cidr),
      asked.subnets.map(({ cidr }) => cidr),
    )
  );
}
