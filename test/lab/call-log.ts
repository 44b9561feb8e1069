import { z } from 'zod';
import { swarmAddressSpace } from '../../src/ipam/docker/network-addresses.ts';

/** A call from Docker that succeeded in the managed plugin, from its log at level debug. */
export interface LoggedCall {
  readonly host: string;
  readonly method: string;
  /** Times of the request and of the response, in milliseconds since 1970. */
  readonly from: number;
  readonly to: number;
  readonly asked: Readonly<Record<string, unknown>>;
  readonly answered: Readonly<Record<string, unknown>>;
}

const body = z.record(z.string(), z.unknown());

/** Returns the calls in dockerd's log, which has each line of a plugin as a message. */
export function loggedCalls(host: string, dockerLog: string): readonly LoggedCall[] {
  const calls: LoggedCall[] = [];
  for (const [, quoted = ''] of dockerLog.matchAll(/ msg="((?:[^"\\]|\\.)*)" plugin=/g)) {
    const line = unquoted(`"${quoted}"`);
    const time = /^(\S+) debug call succeeded /.exec(line)?.[1];
    if (time === undefined) continue;
    const fields = new Map(
      [...line.matchAll(/ (\w+)=("(?:[^"\\]|\\.)*"|\S+)/g)].map(([, name = '', value = '']) => [
        name,
        value.startsWith('"') ? unquoted(value) : value,
      ]),
    );
    const to = Date.parse(time);
    calls.push({
      host,
      method: fields.get('method') ?? '',
      from: to - Number(fields.get('ms')),
      to,
      asked: body.parse(JSON.parse(fields.get('asked') ?? '{}')),
      answered: body.parse(JSON.parse(fields.get('answered') ?? '{}')),
    });
  }
  return calls;
}

function unquoted(text: string): string {
  return z.string().parse(JSON.parse(text));
}

/** The owner of an address: a host for one of its tasks, or a manager. */
interface Hold {
  readonly host: string;
  readonly poolId: string;
  /** When it was requested, in milliseconds since 1970: it may have been allocated long before the response. */
  readonly since: number;
}

interface Event {
  readonly at: number;
  readonly apply: () => void;
}

/** Two checks of leak reclamation are that far apart, in milliseconds. */
const unusedMs = 30_000;

/** How long claims of a former leader may still keep an address, in milliseconds. */
const replacedMs = 25_000;

/**
 * Replays the calls of all hosts against a model of address owners. An address is allocated from the response that
 * returned it until the call that releases it. Returns the problems, and the addresses that were never released. A host
 * whose Docker died owns nothing from then on. An address of a `withoutEndpoint` pool is held for as long as the daemon
 * certainly keeps one that Docker requested and did not use.
 */
export function checkCalls(
  calls: readonly LoggedCall[],
  died: readonly { readonly host: string; readonly at: number }[] = [],
  withoutEndpoint: (poolId: string) => boolean = () => false,
): {
  readonly problems: readonly string[];
  readonly left: readonly string[];
  readonly given: number;
} {
  const problems: string[] = [];
  const users = new Map<string, Hold>();
  const claims = new Map<string, Hold>();
  const managerPools = new Map<string, { network?: string; replacedAt?: number }>();
  const lastPool = new Map<string, string>();
  const networks = new Map<string, string>();
  let given = 0;

  const isClaimed = (address: string, at: number) => {
    const claim = claims.get(address);
    const since = claim && managerPools.get(claim.poolId)?.replacedAt;
    return claim !== undefined && (since === undefined || at - since < replacedMs);
  };
  const give = (call: LoggedCall) => {
    const poolId = String(call.asked['PoolID']);
    const address = String(call.answered['Address']).replace(/\/\d+$/, '');
    const isAny = (call.asked['Address'] ?? '') === '';
    const hold = { host: call.host, poolId, since: call.from };
    const say = (what: string) =>
      problems.push(
        `${new Date(call.to).toISOString()} ${address} is given to ${poolId} on ${call.host}, but ${what}`,
      );
    const pool = managerPools.get(poolId);
    const before = users.get(address);
    if (before && withoutEndpoint(before.poolId) && call.to - before.since > unusedMs) {
      users.delete(address);
    }
    if (isAny && users.has(address)) say(`${users.get(address)?.host} has it`);
    if (isAny && isClaimed(address, call.to)) say(`${claims.get(address)?.poolId} claims it`);
    given++;
    if (pool === undefined) {
      if (!isAny && users.has(address)) say(`${users.get(address)?.host} has it`);
      users.set(address, hold);
      return;
    }
    const other = claims.get(address);
    const otherNetwork = other && managerPools.get(other.poolId)?.network;
    if (!isAny && other?.poolId === poolId) say('it claims it already');
    if (!isAny && other !== undefined && otherNetwork !== pool.network)
      say('another network claims it');
    claims.set(address, hold);
  };
  const release = ({ asked, host }: LoggedCall) => {
    const address = String(asked['Address']);
    for (const holds of [users, claims]) {
      const hold = holds.get(address);
      if (hold !== undefined && hold.poolId === asked['PoolID'] && hold.host === host)
        holds.delete(address);
    }
  };
  const allocate = ({ asked, host, to }: LoggedCall) => {
    const network = String(asked['NetworkID']);
    const poolId = lastPool.get(host) ?? '';
    const former = managerPools.get(networks.get(network) ?? '');
    if (former !== undefined && networks.get(network) !== poolId) former.replacedAt = to;
    networks.set(network, poolId);
    const pool = managerPools.get(poolId);
    if (pool !== undefined) pool.network = network;
  };

  const events: Event[] = died.map(({ host, at }) => ({
    at,
    apply: () => {
      for (const [address, hold] of users) if (hold.host === host) users.delete(address);
    },
  }));
  for (const call of calls) {
    const { method, asked, answered, host, from, to } = call;
    const options = body.safeParse(asked['Options']).data ?? {};
    if (method === 'IpamDriver.RequestPool' && asked['AddressSpace'] === swarmAddressSpace) {
      const poolId = String(answered['PoolID']);
      events.push({
        at: to,
        apply: () => {
          managerPools.set(poolId, {});
          lastPool.set(host, poolId);
        },
      });
    }
    if (method === 'NetworkDriver.AllocateNetwork') {
      events.push({ at: to, apply: () => allocate(call) });
    }
    if (method === 'IpamDriver.RequestAddress' && !('RequestAddressType' in options)) {
      events.push({ at: to, apply: () => give(call) });
    }
    if (method === 'IpamDriver.ReleaseAddress') {
      events.push({ at: from, apply: () => release(call) });
    }
  }
  for (const { apply } of events.toSorted((a, b) => a.at - b.at)) apply();
  const left = [...users, ...claims]
    .filter(([, { poolId }]) => managerPools.get(poolId)?.replacedAt === undefined)
    .map(([address, { host, poolId }]) => `${address} of ${poolId} on ${host}`);
  return { problems, left, given };
}
