import { z } from 'zod';
import { tryParseAddress } from '../../ip/address.ts';
import {
  asNumber,
  bgpLimits,
  durationProblem,
  isPeerAddress,
  parsePeerAddress,
  password,
  rangeProblem,
  specProblems,
  wordProblem,
} from '../bgp.ts';
import { resource } from '../fields.ts';
import { nameColumn, resourceType, type Problem, type ResourceType } from '../resource-type.ts';
import { selectorProblem } from '../selector/problem.ts';
import type { StoredEntries } from '../stored-entries.ts';

const bgpPeer = resource(
  'BGPPeer',
  z.looseObject({
    node: z.exactOptional(z.string()),
    nodeSelector: z.exactOptional(z.string()),
    peerIP: z.exactOptional(z.string()),
    asNumber: z.exactOptional(asNumber),
    localASNumber: z.exactOptional(asNumber),
    peerSelector: z.exactOptional(z.string()),
    keepOriginalNextHop: z.exactOptional(z.boolean()),
    nextHopMode: z.exactOptional(z.string()),
    password: z.exactOptional(password),
    sourceAddress: z.exactOptional(z.string()),
    maxRestartTime: z.exactOptional(z.string()),
    keepaliveTime: z.exactOptional(z.string()),
    numAllowedLocalASNumbers: z.exactOptional(z.int()),
    ttlSecurity: z.exactOptional(z.int()),
    reachableBy: z.exactOptional(z.string()),
    filters: z.exactOptional(z.array(z.string())),
    localWorkloadSelector: z.exactOptional(z.string()),
    reversePeering: z.exactOptional(z.string()),
  }),
);

/** A BGP session of some or all hosts. */
export type BgpPeer = z.infer<typeof bgpPeer>;

export const bgpPeerType: ResourceType<BgpPeer> = resourceType({
  kind: 'BGPPeer',
  plural: 'bgppeers',
  aliases: ['bgpp', 'bp'],
  meaning: 'BGP peer of some or all nodes',
  schema: bgpPeer,
  columns: [
    nameColumn,
    { header: 'peerip', cell: ({ spec }) => spec.peerIP ?? '' },
    { header: 'node', cell: ({ spec }) => spec.node ?? spec.nodeSelector ?? '(global)' },
    { header: 'asn', cell: ({ spec }) => String(spec.asNumber ?? '') },
  ],
  validate: peerProblem,
});

/** Mutually exclusive fields. */
const exclusive = [
  ['node', 'nodeSelector'],
  ['peerIP', 'peerSelector'],
  ['asNumber', 'peerSelector'],
  ['keepOriginalNextHop', 'nextHopMode'],
  ['localWorkloadSelector', 'peerIP'],
  ['localWorkloadSelector', 'peerSelector'],
] as const;

/** Returns the values that have no meaning; where they are stored nevertheless, there is no session. */
export function valueProblems(spec: BgpPeer['spec']): readonly Problem[] {
  const ttlHops = spec.ttlSecurity === 0 ? undefined : spec.ttlSecurity;
  const reserved = (number: number | undefined) => (number === 0 ? '0 is reserved' : undefined);
  return specProblems({
    asNumber: reserved(spec.asNumber),
    localASNumber: reserved(spec.localASNumber),
    maxRestartTime: durationProblem(spec.maxRestartTime, bgpLimits.restartSeconds),
    keepaliveTime: durationProblem(spec.keepaliveTime, bgpLimits.keepaliveSeconds),
    numAllowedLocalASNumbers: rangeProblem(spec.numAllowedLocalASNumbers, bgpLimits.allowedLocalAs),
    ttlSecurity: rangeProblem(ttlHops, bgpLimits.ttlHops),
    nextHopMode: wordProblem(spec.nextHopMode, ['Auto', 'Self', 'Keep']),
    sourceAddress: wordProblem(spec.sourceAddress, ['UseNodeIP', 'None']),
    reversePeering: wordProblem(spec.reversePeering, ['Auto', 'Manual']),
  });
}

/** Rules: libcalico-go/lib/validator/v3 and clientv3/bgppeer.go. */
function peerProblem({ spec }: BgpPeer, stored: StoredEntries): Problem | undefined {
  const isSet = (field: keyof typeof spec) =>
    !['', undefined, false].some((no) => spec[field] === no);
  for (const [one, other] of exclusive) {
    if (isSet(one) && isSet(other)) {
      return { field: `spec.${one}`, why: `cannot be combined with ${other}` };
    }
  }
  for (const field of ['nodeSelector', 'peerSelector', 'localWorkloadSelector'] as const) {
    const why = selectorProblem(spec[field]);
    if (why !== undefined) return { field: `spec.${field}`, why };
  }
  if (isSet('peerIP') && !isPeerAddress(spec.peerIP ?? '')) {
    return {
      field: 'spec.peerIP',
      why: `"${spec.peerIP ?? ''}" is not an address with or without port`,
    };
  }
  if (isSet('reachableBy') && !isSet('peerIP')) {
    return { field: 'spec.reachableBy', why: 'needs peerIP' };
  }
  if (isSet('reachableBy') && tryParseAddress(spec.reachableBy ?? '') === undefined) {
    return { field: 'spec.reachableBy', why: `"${spec.reachableBy ?? ''}" is not an IP address` };
  }
  if (isSet('localWorkloadSelector')) {
    return { field: 'spec.localWorkloadSelector', why: 'BGP with containers is not supported' };
  }
  if (!isSet('peerIP') && !isSet('peerSelector')) {
    return { field: 'spec', why: 'needs peerIP or peerSelector' };
  }
  const [wrongValue] = valueProblems(spec);
  if (wrongValue !== undefined) return wrongValue;
  const own = spec.node === undefined ? undefined : stored.get('Node', spec.node);
  const { ipv4Address = '', ipv6Address = '' } = own?.spec.bgp ?? {};
  const peer = parsePeerAddress(spec.peerIP ?? '')?.address;
  const ownAddresses = [ipv4Address, ipv6Address].map((text) =>
    tryParseAddress(text.split('/', 1)[0] ?? ''),
  );
  if (peer !== undefined && ownAddresses.includes(peer)) {
    return {
      field: 'spec.peerIP',
      why: `${peer} is the address of Node ${spec.node ?? ''} itself`,
    };
  }
  const missing = spec.filters?.find((name) => stored.get('BGPFilter', name) === undefined);
  return missing === undefined
    ? undefined
    : { field: 'spec.filters', why: `BGPFilter ${missing} does not exist` };
}
