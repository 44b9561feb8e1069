import { tryParseAddress, type IpAddress } from '../../ip/address.ts';
import { cidrContains, parseCidr, type Cidr } from '../../ip/cidr.ts';
import {
  bgpLimits,
  parseDurationSeconds,
  passwordReference,
  rangeProblem,
} from '../../model/bgp.ts';
import { valueProblems, type BgpPeer } from '../../model/kinds/bgp-peer.ts';
import type { BgpInputs, BgpProblem } from './bgp-inputs.ts';
import { peerAnnotations } from './peer-annotations.ts';
import { sessionBfd, type SessionBfd } from './session-bfd.ts';

/** What a BGPPeer, or the mesh, says of a session. */
export interface SessionOptions extends SessionBfd {
  readonly password: string | undefined;
  readonly restartSeconds: number | undefined;
  readonly keepaliveSeconds: number | undefined;
  readonly allowedLocalAs: number | undefined;
  /** The greatest number of hops; packets that have crossed more are dropped. */
  readonly ttlHops: number | undefined;
  /** Router by which the peer is reached. */
  readonly reachableBy: IpAddress | undefined;
  readonly maxPrefixes: number;
  /** Names of BGPFilters, in order. */
  readonly filters: readonly string[];
}

interface OptionsRequest {
  readonly resource: string;
  readonly peer: IpAddress;
  readonly spec: BgpPeer['spec'];
  readonly annotations: Readonly<Record<string, string>>;
}

interface SessionPlace {
  readonly source: IpAddress | undefined;
  /** Of this host. */
  readonly networks: readonly Cidr[];
  readonly asNumbers: readonly [local: number, peer: number];
}

const defaultMaxPrefixes = 100_000;
const linkLocal = parseCidr('fe80::/10');

/**
 * Returns the options of a session. With problems the session must not be configured: a speaker would refuse the whole
 * configuration for a value beyond its limits, and a session without its password or filters is worse than none.
 */
export function optionsOf(
  { resource, peer, spec, annotations }: OptionsRequest,
  { source, networks, asNumbers }: SessionPlace,
  { filters, passwordOf }: Pick<BgpInputs, 'filters' | 'passwordOf'>,
): {
  readonly options: SessionOptions;
  readonly problems: readonly Omit<BgpProblem, 'resource'>[];
} {
  const problems: Omit<BgpProblem, 'resource'>[] = [];
  const check = (field: string, why: string | undefined) => {
    if (why !== undefined) problems.push({ field, why });
  };
  const isMesh = resource.startsWith('BGPConfiguration');
  for (const address of [peer, source]) {
    if (address !== undefined && cidrContains(linkLocal, address)) {
      check('spec.peerIP', `${address} is a link-local address, with which there are no sessions`);
    }
  }
  const [localAs, peerAs] = asNumbers;
  if (localAs === 0) check('spec.asNumber', 'that of this node is 0, which is reserved');
  if (peerAs === 0) check('spec.asNumber', `that of ${peer} is 0, which is reserved`);

  const password = spec.password && foundPassword(spec.password, passwordOf);
  check(isMesh ? 'spec.nodeMeshPassword' : 'spec.password', password?.why);
  const missing = (spec.filters ?? []).find((name) => !filters.has(name));
  check('spec.filters', missing === undefined ? missing : `BGPFilter ${missing} does not exist`);
  for (const { field, why } of valueProblems(spec)) {
    check(isMesh ? field.replace('maxRestartTime', 'nodeMeshMaxRestartTime') : field, why);
  }
  const seconds = (text = '') => {
    const found = parseDurationSeconds(text);
    return found === undefined ? undefined : Math.ceil(found);
  };
  const ttlHops = spec.ttlSecurity === 0 ? undefined : spec.ttlSecurity;
  const { problems: bfdProblems, ...bfd } = sessionBfd(annotations, {
    isOnNetwork: networks.some((net) => cidrContains(net, peer)),
    hasSource: source !== undefined,
    ttlHops,
  });
  problems.push(...bfdProblems);
  const maxPrefixes = Number(annotations[peerAnnotations.maxPrefixes] ?? defaultMaxPrefixes);
  const maxField = `metadata.annotations.${peerAnnotations.maxPrefixes}`;
  check(maxField, rangeProblem(maxPrefixes, bgpLimits.maxPrefixes));

  const gateway = spec.reachableBy ?? '';
  const reachableBy = gateway === '' ? undefined : tryParseAddress(gateway);
  if (gateway !== '' && reachableBy === undefined) {
    check('spec.reachableBy', `"${gateway}" is not an IP address`);
  }
  return {
    options: {
      password: password?.password,
      restartSeconds: seconds(spec.maxRestartTime),
      keepaliveSeconds: seconds(spec.keepaliveTime),
      allowedLocalAs: spec.numAllowedLocalASNumbers,
      ttlHops,
      reachableBy,
      ...bfd,
      maxPrefixes,
      filters: spec.filters ?? [],
    },
    problems,
  };
}

function foundPassword(
  reference: NonNullable<BgpPeer['spec']['password']>,
  passwordOf: BgpInputs['passwordOf'],
): { readonly password: string | undefined; readonly why?: string } {
  const named = passwordReference(reference);
  const why = 'needs secretKeyRef with a name and a key';
  return named === undefined ? { password: undefined, why } : passwordOf(named);
}
