import { CalicoError } from '../../errors/error.ts';
import type { IpFamily } from '../../ip/address.ts';
import { parseCidr, type Cidr } from '../../ip/cidr.ts';

/** Contents of a PoolID: the whole request, so that a lost record can be recreated from it. */
export interface PoolFacts {
  readonly family: IpFamily;
  readonly subnet?: Cidr;
  readonly range?: Cidr;
  readonly ipPools?: readonly string[];
  /** Whether a Swarm manager requested it, for the tasks of all hosts. */
  readonly forSwarm?: boolean;
  /** Distinguishes two identical requests. */
  readonly nonce: string;
}

const prefix = 'calico';

/** For example `calico;v=4;subnet=10.99.0.0/16;range=10.99.4.0/24;id=1f2e3d4c`. */
export function formatPoolId(facts: PoolFacts): string {
  const { family, subnet, range, ipPools, forSwarm, nonce } = facts;
  return [
    prefix,
    `v=${family}`,
    ...(forSwarm === true ? ['for=swarm'] : []),
    ...(subnet === undefined ? [] : [`subnet=${subnet}`]),
    ...(range === undefined ? [] : [`range=${range}`]),
    ...(ipPools === undefined ? [] : [`pools=${ipPools.join(',')}`]),
    `id=${nonce}`,
  ].join(';');
}

/** Reports whether a PoolID is of this driver; those of libnetwork-plugin are names of IP pools and two constants. */
export function isOwnPoolId(poolId: string): boolean {
  return poolId.startsWith(`${prefix};`);
}

/** Throws `ipam/unknown-pool-id` for a PoolID that is not of this driver. */
export function parsePoolId(poolId: string): PoolFacts {
  const [first, ...parts] = poolId.split(';');
  const values = new Map(
    parts.map((part) => {
      const at = part.indexOf('=');
      return [part.slice(0, at), part.slice(at + 1)] as const;
    }),
  );
  const nonce = values.get('id');
  const family = values.get('v');
  if (first !== prefix || nonce === undefined || (family !== '4' && family !== '6')) {
    throw new CalicoError('ipam/unknown-pool-id', { poolId });
  }
  const [subnet, range, ipPools] = [values.get('subnet'), values.get('range'), values.get('pools')];
  return {
    family: family === '4' ? 4 : 6,
    nonce,
    ...(values.get('for') === 'swarm' ? { forSwarm: true } : {}),
    ...(subnet === undefined ? {} : { subnet: parseCidr(subnet) }),
    ...(range === undefined ? {} : { range: parseCidr(range) }),
    ...(ipPools === undefined ? {} : { ipPools: ipPools.split(',') }),
  };
}
