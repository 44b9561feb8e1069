import assert from 'node:assert/strict';
import type { Datastore } from '../datastore/datastore.ts';
import type { GroupWriter } from '../cache/group-writer.ts';
import type { LiveMirror } from '../cache/live-mirror.ts';
import { openMirroredStore } from '../cache/mirrored-store.fixture.ts';
import { writeAll } from '../datastore/steps.ts';
import type { Draft, Writer } from '../datastore/writer.ts';
import { parseAddress } from '../ip/address.ts';
import { parseCidr, parseInterfaceAddress } from '../ip/cidr.ts';
import type { DockerNetwork } from '../model/kinds/docker-network.ts';
import type { IpPool } from '../model/kinds/ip-pool.ts';
import type { EntryKind } from '../model/kinds/index.ts';
import { endpointIdsOf, endpointName } from '../model/kinds/workload-endpoint.ts';
import type { AllocationAttributes } from '../model/kinds/block.ts';
import { createDockerIpam } from './docker/docker-ipam.ts';
import { LastAddresses } from './docker/last-addresses.ts';
import { addressSpace, createNetworkAddresses } from './docker/network-addresses.ts';
import { findAllocation } from './records/allocation.ts';

/** Not the default one: address management finds endpoints in any namespace. */
export const labNamespace = 'shop';

export const signal = AbortSignal.timeout(600_000);
export const nodes = ['host-a', 'host-b'] as const;

export const defaultPool: IpPool = {
  kind: 'IPPool',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: 'default-ipv4-ippool' },
  spec: { cidr: parseCidr('10.65.0.0/26'), blockSize: 29, nodeSelector: 'all()' },
};

/** Runs IPAM on its own datastore; `seen` wraps the datastore. */
export async function withIpam(
  use: (lab: Lab) => Promise<void>,
  seen?: (store: Datastore) => Datastore,
): Promise<void> {
  await using store = await openMirroredStore(seen);
  const { mirror, writer } = store;
  await writer.write((draft) => {
    draft.put('IPPool', 'default-ipv4-ippool', defaultPool);
    for (const name of nodes) {
      draft.put('Node', name, {
        kind: 'Node',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name, labels: { rack: name } },
        spec: {},
      });
    }
  }, signal);
  await use(new Lab(mirror, writer));
}

/** Docker on two hosts, as seen by IPAM. */
export class Lab {
  readonly mirror: LiveMirror;
  readonly writer: GroupWriter;
  readonly plans = createNetworkAddresses({
    now: () => this.now(),
    stamp: <R>(resource: R) => resource,
    usedRanges: () => [],
  });
  /** The clock of all hosts. */
  now = () => new Date();
  readonly last = new LastAddresses(() => this.now().getTime());
  #made = 0;

  constructor(mirror: LiveMirror, writer: GroupWriter) {
    this.mirror = mirror;
    this.writer = writer;
  }

  /** Writes as a host does, which may not write records of another host (cluster/roles.ts). */
  on(node: string): Pick<Writer, 'write'> {
    const own: readonly (readonly [EntryKind, string])[] = [
      ['DockerPool', `${node}/`],
      ['DockerNetwork', `${node}/`],
      ['WorkloadEndpoint', endpointIdsOf(node, labNamespace)],
    ];
    const check = (kind: EntryKind, id: string) => {
      const prefix = own.find(([of]) => of === kind)?.[1] ?? '';
      assert.ok(id.startsWith(prefix), `${node} writes ${kind} ${id}`);
    };
    const checked = (draft: Draft): Draft => ({
      ...bound(draft),
      put: (kind, id, value) => {
        check(kind, id);
        draft.put(kind, id, value);
      },
      remove: (kind, id) => {
        check(kind, id);
        draft.remove(kind, id);
      },
    });
    return { write: (plan, until) => this.writer.write((draft) => plan(checked(draft)), until) };
  }

  ipam(node: string) {
    return createDockerIpam({
      usedRanges: () => [],
      node,
      writer: this.on(node),
      now: () => this.now(),
      nonce: () => `n${this.#made++}`,
      stamp: (pool) => pool,
      last: this.last,
    });
  }

  async pool(
    node: string,
    subnet?: string,
    range?: string,
    space?: string,
  ): Promise<Record<string, unknown>> {
    const request = {
      AddressSpace: space,
      Pool: subnet,
      SubPool: range,
      Options: {},
      V6: false,
    };
    return { ...(await this.ipam(node).requestPool.answer(request, signal)) };
  }

  async address(
    node: string,
    poolId: string,
    wanted?: string,
    options: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    const request = { PoolID: poolId, Address: wanted, Options: { ...options } };
    const answer = await this.ipam(node).requestAddress.answer(request, signal);
    return parseInterfaceAddress('Address' in answer ? String(answer.Address) : '').address;
  }

  async release(node: string, poolId: string, address: string): Promise<void> {
    await this.ipam(node).releaseAddress.answer({ PoolID: poolId, Address: address }, signal);
  }

  async releasePool(node: string, poolId: string): Promise<void> {
    await this.ipam(node).releasePool.answer({ PoolID: poolId }, signal);
  }

  /** Returns the result of a plan. */
  async plan<Result>(plan: (draft: Draft) => Result): Promise<Result> {
    return (await this.writer.write(plan, signal)).result;
  }

  /** Returns the response of RequestPool to a whole request. */
  async requestPool(
    node: string,
    request: Partial<Parameters<ReturnType<typeof createDockerIpam>['requestPool']['answer']>[0]>,
  ): Promise<Record<string, unknown>> {
    const all = { AddressSpace: undefined, Pool: undefined, SubPool: undefined, V6: false };
    const ipam = this.ipam(node).requestPool;
    return { ...(await ipam.answer({ ...all, Options: {}, ...request }, signal)) };
  }

  /** Returns the attributes of an address's allocation. */
  async holder(address: string): Promise<AllocationAttributes | undefined> {
    return this.plan((draft) => findAllocation(draft, parseAddress(address))?.holder);
  }

  /** CreateNetwork with the pools requested before. */
  async adopt(
    node: string,
    id: string,
    pools: readonly Record<string, unknown>[],
    space: string = addressSpace,
  ): Promise<void> {
    const subnets = pools.map((pool) => ({
      family: 4 as const,
      addressSpace: space,
      cidr: parseCidr(String(pool['Pool'])),
      gateway: parseInterfaceAddress(gatewayOf(pool)).address,
      auxiliary: {},
    }));
    await this.on(node).write((draft) => {
      const adopted = this.plans.adoptSubnets(draft, { node, networkId: id, subnets });
      const network: DockerNetwork = {
        id,
        node,
        ipam: adopted.ipam,
        internal: false,
        ipv4: true,
        ipv6: false,
        subnets: [...adopted.subnets],
        options: {},
      };
      draft.put('DockerNetwork', `${node}/${id}`, network);
    }, signal);
  }

  /** AllocateNetwork of a Swarm manager, for a network of one subnet. */
  async allocate(node: string, networkId: string, cidr: string, gateway: string): Promise<void> {
    const subnet = { family: 4 as const, cidr: parseCidr(cidr), gateway: parseAddress(gateway) };
    const request = { node, networkId, subnets: [{ ...subnet, addressSpace, auxiliary: {} }] };
    await this.on(node).write((draft) => this.plans.allocateNetwork(draft, request), signal);
  }

  /** FreeNetwork of a Swarm manager. */
  async free(node: string, networkId: string): Promise<void> {
    await writeAll(
      this.on(node),
      (draft) => this.plans.freeNetwork(draft, node, networkId),
      signal,
    );
  }

  /** DeleteNetwork. */
  async removeNetwork(node: string, id: string): Promise<void> {
    await this.writer.write((draft) => draft.remove('DockerNetwork', `${node}/${id}`), signal);
  }

  /** DeleteEndpoint. */
  async disconnect(node: string, endpointId: string): Promise<void> {
    const id = `${labNamespace}/${endpointName(node, endpointId)}`;
    await this.writer.write((draft) => draft.remove('WorkloadEndpoint', id), signal);
  }

  /** CreateEndpoint with an address requested before. */
  async connect(
    node: string,
    networkId: string,
    { endpointId, address: given }: { readonly endpointId: string; readonly address: string },
  ): Promise<void> {
    await this.on(node).write((draft) => {
      const network = draft.get('DockerNetwork', `${node}/${networkId}`);
      assert.ok(network);
      const addresses = [parseAddress(given)];
      this.plans.bindEndpoint(draft, { node, network, endpointId, addresses });
      const name = endpointName(node, endpointId);
      draft.put('WorkloadEndpoint', `${labNamespace}/${name}`, {
        kind: 'WorkloadEndpoint',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name, namespace: labNamespace },
        spec: { node, endpoint: endpointId, interfaceName: 'cali0', orchestrator: 'libnetwork' },
      });
    }, signal);
  }
}

/** The methods of a draft, apart from those that write. */
function bound(draft: Draft): Omit<Draft, 'put' | 'remove'> {
  return {
    get: (kind, id) => draft.get(kind, id),
    getLikelyNew: (kind, id) => draft.getLikelyNew(kind, id),
    readAhead: (kind, ids) => draft.readAhead(kind, ids),
    entries: (kind) => draft.entries(kind),
    brief: (kind, id) => draft.brief(kind, id),
    briefs: (kind) => draft.briefs(kind),
    group: (kind, group) => draft.group(kind, group),
    unreadable: (kind) => draft.unreadable(kind),
    isUnreadable: (kind, id) => draft.isUnreadable(kind, id),
    discardUnreadable: (kind, id) => draft.discardUnreadable(kind, id),
    expect: (kind, id) => draft.expect(kind, id),
    expectNoNew: (kind, idPrefix) => draft.expectNoNew(kind, idPrefix),
  };
}

export function gatewayOf(pool: Record<string, unknown>): string {
  const data: unknown = pool['Data'];
  assert.ok(typeof data === 'object' && data !== null && 'com.docker.network.gateway' in data);
  return String(data['com.docker.network.gateway']);
}
