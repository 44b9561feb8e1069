import { z } from 'zod';
import { pause } from '../../async/deadline.ts';
import { writeAll } from '../../datastore/steps.ts';
import type { Draft, Writer } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import {
  addressBits,
  anyAddress4,
  anyAddress6,
  familyOf,
  isUnspecified,
  parseAddress,
  type IpAddress,
  type IpFamily,
} from '../../ip/address.ts';
import { cidrFamily, parseCidr, splitCidr, type Cidr } from '../../ip/cidr.ts';
import type { DockerPool } from '../../model/kinds/docker-pool.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { namesInList } from '../../model/names-in-list.ts';
import { addressState } from '../pools/address-state.ts';
import { releaseAddress, requestAddress, reserve } from './addresses.ts';
import { claimOf } from './claims.ts';
import type { UsedRange } from '../pools/default-pools.ts';
import type { LastAddresses } from './last-addresses.ts';
import { isLinkLocal } from './next-hop.ts';
import {
  isInside,
  poolIdsOfNetworks,
  poolRecord,
  poolsOfRecord,
  releasePool,
  requestPool,
} from './docker-pools.ts';
import { addressSpace, swarmAddressSpace } from './network-addresses.ts';
import { prefixesInside } from './prefixes.ts';
import { claimAddress, releaseClaim } from './swarm-addresses.ts';

/** Docker's IPAM driver API. Source: moby, libnetwork/ipams/remote/api; Docker 20.10 to 29. */

const optionMap = z
  .union([z.record(z.string(), z.string()), z.null()])
  .optional()
  .transform((value) => value ?? {});
const text = z
  .union([z.string(), z.null()])
  .optional()
  .transform((value) => (value === '' || value === null ? undefined : value));
const poolId = z.string().min(1, 'must not be empty');

const requestPoolRequest = z.object({
  AddressSpace: text,
  Pool: text,
  SubPool: text,
  Options: optionMap,
  V6: z
    .boolean()
    .optional()
    .transform((value) => value ?? false),
});
const releasePoolRequest = z.object({ PoolID: poolId });
const requestAddressRequest = z.object({ PoolID: poolId, Address: text, Options: optionMap });
const releaseAddressRequest = z.object({ PoolID: poolId, Address: z.string() });

/** One call: the schema of its body, and its handler. */
export interface IpamCall<Schema extends z.ZodType> {
  readonly schema: Schema;
  readonly answer: (request: z.infer<Schema>, signal: AbortSignal) => Promise<object>;
}

export interface DockerIpamDeps {
  readonly node: string;
  readonly writer: Writer;
  readonly now: () => Date;
  /** Returns a unique short text. */
  readonly nonce: () => string;
  readonly stamp: (pool: IpPool) => IpPool;
  /** Returns ranges of this host that a new subnet must not overlap. */
  readonly usedRanges: () => readonly UsedRange[];
  readonly last: Pick<LastAddresses, 'addressFor' | 'isKept' | 'freed'>;
}

const gatewayKey = 'com.docker.network.gateway';
const addressTypeKey = 'RequestAddressType';
const containerKey = 'com.docker.network.endpoint.name';
const maxUnused = 32;
const unusedMs = 5000;
/** How long Docker's event of a new container may be later than the request for its address, in milliseconds. */
const eventMs = 50;

export const capabilities = { RequiresMACAddress: false, RequiresRequestReplay: false } as const;

/**
 * One address space for all networks, so that Docker 27 and later does not check for overlaps; a second one for
 * requests of a Swarm manager.
 */
export function addressSpaces(scope: 'local' | 'global') {
  return {
    LocalDefaultAddressSpace: addressSpace,
    GlobalDefaultAddressSpace: scope === 'global' ? swarmAddressSpace : addressSpace,
  };
}

/** The calls with a body. */
export function createDockerIpam(deps: DockerIpamDeps) {
  const { node, writer, now, nonce, stamp } = deps;
  const answerPool = async (
    request: z.infer<typeof requestPoolRequest>,
    signal: AbortSignal,
  ): Promise<object> => {
    const asked = parsePoolRequest(request);
    const used = asked.subnet === undefined ? [] : deps.usedRanges();
    const plan = (draft: Draft) => {
      if (asked.family === 6 && asked.subnet === undefined) refuseLoop(draft, node, now());
      const inUse =
        asked.subnet === undefined ? [] : [...used, ...prefixesInside(draft, asked.subnet)];
      const facts = { node, nonce: nonce(), now: now(), stamp, used: inUse };
      const record = requestPool(draft, { ...asked, ...facts });
      return { record, pool: shownPool(draft, record) };
    };
    const { result } = await writer.write(plan, signal);
    const { record, pool } = result;
    const data = record.nextHop === undefined ? {} : { [gatewayKey]: asHost(record.nextHop) };
    return { PoolID: record.poolId, Pool: pool, Data: data };
  };

  const answerAddress = async (
    request: z.infer<typeof requestAddressRequest>,
    signal: AbortSignal,
  ): Promise<object> => {
    const address = wantedAddress(request.Address);
    const isGateway = request.Options[addressTypeKey] === gatewayKey;
    const container = request.Options[containerKey];
    const plan =
      (isSettled: boolean) =>
      (draft: Draft): IpAddress | undefined => {
        const record = poolRecord(draft, request.PoolID, { node, now: now(), stamp });
        if (isGateway) return gatewayAddress(draft, { record, address, now: now() });
        if (record.swarm !== undefined) return claimAddress(draft, { record, address, now: now() });
        const { last } = deps;
        return requestAddress(draft, { record, address, container, now: now(), last, isSettled });
      };
    for (let isSettled = container !== undefined; ; isSettled = true) {
      const { result } = await writer.write(plan(isSettled), signal);
      if (result !== undefined) return { Address: asHost(result), Data: {} };
      await pause(eventMs, signal);
    }
  };

  return {
    requestPool: { schema: requestPoolRequest, answer: answerPool } satisfies IpamCall<
      typeof requestPoolRequest
    >,
    releasePool: {
      schema: releasePoolRequest,
      answer: async ({ PoolID }, signal) => {
        await writeAll(writer, (draft) => releasePool(draft, PoolID, node), signal);
        return {};
      },
    } satisfies IpamCall<typeof releasePoolRequest>,
    requestAddress: { schema: requestAddressRequest, answer: answerAddress } satisfies IpamCall<
      typeof requestAddressRequest
    >,
    releaseAddress: {
      schema: releaseAddressRequest,
      answer: async ({ PoolID, Address }, signal) => {
        const address = wantedAddress(Address.replace(/\/\d+$/, ''));
        if (address === undefined) return {};
        await writer.write((draft) => {
          const released = { node, poolId: PoolID, address };
          releaseAddress(draft, released);
          releaseClaim(draft, released);
        }, signal);
        deps.last.freed(address);
        return {};
      },
    } satisfies IpamCall<typeof releaseAddressRequest>,
  };
}

interface AskedPool {
  readonly family: IpFamily;
  readonly forSwarm?: boolean;
  readonly subnet?: Cidr;
  readonly range?: Cidr;
  readonly ipPools?: readonly string[];
}

function parsePoolRequest(request: z.infer<typeof requestPoolRequest>): AskedPool {
  const { AddressSpace, Pool, SubPool, Options, V6 } = request;
  const given = Pool === undefined ? undefined : parseCidr(Pool);
  const range = SubPool === undefined ? undefined : parseCidr(SubPool);
  const ipPools = parsePoolOptions(Options);
  return {
    family: given === undefined ? (V6 ? 6 : 4) : cidrFamily(given),
    ...(AddressSpace === swarmAddressSpace ? { forSwarm: true } : {}),
    // An unspecified base address requests any subnet of that size, which is not supported.
    ...(given === undefined || isUnspecified(splitCidr(given).address) ? {} : { subnet: given }),
    ...(range === undefined ? {} : { range }),
    ...(ipPools === undefined ? {} : { ipPools }),
  };
}

/** `--ipam-opt pool=NAME,…`; options added by dockerd itself are ignored. */
function parsePoolOptions(
  options: Readonly<Record<string, string>>,
): readonly string[] | undefined {
  let pools: readonly string[] | undefined;
  for (const [key, value] of Object.entries(options)) {
    if (key.startsWith('com.docker.network.')) continue;
    if (key !== 'pool') throw new CalicoError('ipam/unknown-option', { key, known: 'pool' });
    pools = namesInList(value);
  }
  return pools === undefined || pools.length === 0 ? undefined : pools;
}

/**
 * Returns the subnet that Docker shows. `0.0.0.0/0` stands for "any of the pools": Docker exempts it from its check
 * against the host's routes, which would otherwise repeat the request endlessly. IPv6 has no such exemption.
 */
function shownPool(draft: Draft, record: DockerPool): Cidr {
  if (record.subnet !== undefined) return record.subnet;
  if (record.family === 4) return parseCidr('0.0.0.0/0');
  const [first] = poolsOfRecord(draft, record);
  return first?.spec.cidr ?? parseCidr('::/0');
}

function gatewayAddress(
  draft: Draft,
  request: {
    readonly record: DockerPool;
    readonly address: IpAddress | undefined;
    readonly now: Date;
  },
): IpAddress {
  const { record, address, now } = request;
  const ownHop = record.nextHop ?? (record.family === 4 ? anyAddress4 : anyAddress6);
  if (address === undefined) return ownHop;
  if (isLinkLocal(address) && !isInside(draft, record, address)) {
    // The gateway of a Swarm network is the next hop chosen by its first manager. Later managers identify the network
    // by it; a host on which tasks run has its own, because each network of a host needs a different one.
    if (record.swarm === undefined) return ownHop;
    draft.put('DockerPool', claimOf(record), { ...record, nextHop: address });
    return address;
  }
  if (address !== record.nextHop) {
    reserve(draft, addressState(draft, address), { record, type: 'gateway', now });
  }
  return address;
}

/**
 * Docker up to 26 repeats the request endlessly for an IPv6 pool that overlaps a name server or route of the host,
 * and keeps all pools until it gets a suitable one: many new pools that no network uses.
 */
function refuseLoop(draft: Draft, node: string, now: Date): void {
  const used = poolIdsOfNetworks(draft, node);
  let unused = 0;
  for (const [, pool] of draft.group('DockerPool', node)) {
    const isAny = pool.family === 6 && pool.subnet === undefined;
    const isNew = now.getTime() - Date.parse(pool.createdAt) < unusedMs;
    if (isAny && isNew && !used.has(pool.poolId)) unused++;
  }
  if (unused >= maxUnused) {
    throw new CalicoError('ipam/asked-too-often', { pool: 'of the default pools' });
  }
}

/** Returns `undefined` for "any" and for the unspecified address. */
function wantedAddress(given: string | undefined): IpAddress | undefined {
  if (given === undefined || given === '') return undefined;
  const address = parseAddress(given);
  return isUnspecified(address) ? undefined : address;
}

/** Returns the address with its full prefix length, as Docker requires. */
function asHost(address: IpAddress): string {
  return `${address}/${addressBits(familyOf(address))}`;
}
