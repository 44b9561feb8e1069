import { CalicoError, describe } from '../../errors/error.ts';
import { parseAddress, type IpAddress } from '../../ip/address.ts';
import { cidrContains, cidrCovers, cidrFamily, parseCidr, type Cidr } from '../../ip/cidr.ts';
import { parseNetworkOptions } from '../../driver/networks/network-options.ts';
import type { DefinedSubnet, NetworkDefinition } from '../../model/kinds/network-definition.ts';
import { namesInList } from '../../model/names-in-list.ts';

/** The flags of `network create`, those of `docker network create`. */
export interface NetworkFlags {
  readonly subnet: readonly string[];
  readonly gateway: readonly string[];
  readonly ipRange: readonly string[];
  readonly auxAddress: readonly string[];
  readonly ipamOpt: readonly string[];
  readonly label: readonly string[];
  readonly opt: readonly string[];
  readonly namespace?: string;
  readonly internal?: boolean;
  readonly ipv6?: boolean;
}

/** Parses the flags, as docker does: `--gateway` and others belong to the subnet that contains them. Throws `cli/…`. */
export function parseDefinition(
  name: string,
  flags: NetworkFlags,
  others: Pick<NetworkDefinition, 'uid' | 'createdAt' | 'vxlanMode'>,
): NetworkDefinition {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]+$/.test(name)) {
    const why = 'must begin with a letter or digit, and have only these, _, . and -';
    throw new CalicoError('cli/bad-argument', { what: `network name "${name}"`, why });
  }
  const { namespace, opt } = flags;
  const named = namespace === undefined ? [] : [`namespace=${namespace}`];
  const options = pairs('--opt', [...opt, ...named]);
  parseNetworkOptions(options);
  const subnets = parseSubnets(flags);
  const ipPools = pairs('--ipam-opt', flags.ipamOpt);
  const { pool, ...unknown } = ipPools;
  const [other] = Object.keys(unknown);
  if (other !== undefined) throw bad(`--ipam-opt ${other}`, 'only pool=NAME,… is known');
  const chosen = namesInList(pool ?? '');
  return {
    ...others,
    name,
    internal: flags.internal === true,
    ipv6: flags.ipv6 === true || subnets.some(({ cidr }) => cidrFamily(cidr) === 6),
    subnets,
    ...(chosen.length === 0 ? {} : { ipPools: chosen }),
    options,
    labels: pairs('--label', flags.label),
  };
}

function parseSubnets(flags: NetworkFlags): DefinedSubnet[] {
  const cidrs = flags.subnet.map((text) => parsed('--subnet', text, parseCidr));
  if (new Set(cidrs).size < cidrs.length) throw bad('--subnet', 'is given twice');
  const ranges = flags.ipRange.map((text) => parsed('--ip-range', text, parseCidr));
  const gateways = flags.gateway.map((text) => parsed('--gateway', text, parseAddress));
  const auxiliary = Object.entries(pairs('--aux-address', flags.auxAddress)).map(
    ([host, text]) => [host, parsed('--aux-address', text, parseAddress)] as const,
  );
  for (const range of ranges) onlyOne('--ip-range', range, cidrs, cidrCovers);
  for (const gateway of gateways) onlyOne('--gateway', gateway, cidrs, contains);
  for (const [, address] of auxiliary) onlyOne('--aux-address', address, cidrs, contains);
  return cidrs.map((cidr) => {
    const [range, secondRange] = ranges.filter((one) => cidrCovers(cidr, one));
    const [gateway, second] = gateways.filter((one) => contains(cidr, one));
    if (secondRange !== undefined) throw bad(`--ip-range ${secondRange}`, `${cidr} has one`);
    if (second !== undefined) throw bad(`--gateway ${second}`, `subnet ${cidr} has one`);
    const own = auxiliary.filter(([, address]) => contains(cidr, address));
    return {
      cidr,
      ...(range === undefined ? {} : { range }),
      ...(gateway === undefined ? {} : { gateway }),
      ...(own.length === 0 ? {} : { auxiliary: Object.fromEntries(own) }),
    };
  });
}

function contains(cidr: Cidr, address: IpAddress): boolean {
  return cidrContains(cidr, address);
}

function onlyOne<Value extends string>(
  flag: string,
  value: Value,
  cidrs: readonly Cidr[],
  isIn: (cidr: Cidr, value: Value) => boolean,
): void {
  if (!cidrs.some((cidr) => isIn(cidr, value))) {
    throw bad(`${flag} ${value}`, 'no --subnet contains it');
  }
}

/** Parses `KEY=VALUE`; a key alone has the empty value, as in docker. */
function pairs(flag: string, texts: readonly string[]): Record<string, string> {
  const found = new Map<string, string>();
  for (const text of texts) {
    const [key = '', ...rest] = text.split('=');
    if (key === '') throw bad(`${flag} ${text}`, 'is not KEY=VALUE');
    if (found.has(key)) throw bad(`${flag} ${text}`, `${key} is given twice`);
    found.set(key, rest.join('='));
  }
  return Object.fromEntries(found);
}

function parsed<Value>(flag: string, text: string, parse: (text: string) => Value): Value {
  try {
    return parse(text);
  } catch (error) {
    throw bad(`${flag} ${text}`, describe(error));
  }
}

function bad(what: string, why: string): CalicoError {
  return new CalicoError('cli/bad-argument', { what, why });
}
