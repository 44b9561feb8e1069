import { cidrContains, type Cidr } from '../ip/cidr.ts';
import { familyOf, type IpAddress } from '../ip/address.ts';
import type { EntityRule, PolicyRule } from '../model/policy-rule.ts';
import { matches } from '../model/selector/matches.ts';
import { parseSelector } from '../model/selector/parse.ts';
import type { Packet } from './evaluate/evaluate.ts';

/**
 * Says what Calico's policy means, from the resources alone and without any cleverness: the oracle for the compiler and
 * for the kernel. Source: Calico's documentation of its resources.
 */

export interface World {
  readonly tiers: ReadonlyMap<
    string,
    { readonly order?: number; readonly defaultAction?: 'Deny' | 'Pass' }
  >;
  readonly policies: readonly ReferencePolicy[];
  readonly profiles: ReadonlyMap<string, ReferenceProfile>;
  readonly endpoints: readonly ReferenceEndpoint[];
  readonly sets: readonly ReferenceSet[];
  /** Whether packets that the policies of a tier do not decide go on to the next one, whatever the tier says. */
  readonly allTiersPass?: boolean;
}

export interface ReferencePolicy {
  readonly kind:
    | 'NetworkPolicy'
    | 'GlobalNetworkPolicy'
    | 'StagedNetworkPolicy'
    | 'StagedGlobalNetworkPolicy';
  readonly namespace?: string;
  readonly name: string;
  readonly spec: {
    readonly tier?: string;
    readonly order?: number;
    readonly selector?: string;
    readonly namespaceSelector?: string;
    readonly types?: readonly ('Ingress' | 'Egress')[];
    readonly ingress?: readonly PolicyRule[];
    readonly egress?: readonly PolicyRule[];
    readonly doNotTrack?: boolean;
    readonly preDNAT?: boolean;
    readonly applyOnForward?: boolean;
  };
}

export interface ReferenceProfile {
  readonly labelsToApply?: Readonly<Record<string, string>>;
  readonly ingress?: readonly PolicyRule[];
  readonly egress?: readonly PolicyRule[];
}

export interface ReferenceEndpoint {
  readonly namespace: string;
  readonly addresses: readonly IpAddress[];
  readonly labels: Readonly<Record<string, string>>;
  readonly profiles: readonly string[];
  /** Ports that it has by name. */
  readonly ports?: readonly {
    readonly name: string;
    readonly protocol: number;
    readonly port: number;
  }[];
}

export interface ReferenceSet {
  readonly namespace?: string;
  readonly nets: readonly Cidr[];
  /** The addresses of its domain names. */
  readonly domains?: readonly IpAddress[];
  readonly labels: Readonly<Record<string, string>>;
}

/** A host endpoint: it has no namespace. */
export type ReferenceHost = Pick<ReferenceEndpoint, 'labels' | 'profiles'>;

type Way = 'ingress' | 'egress';

/** Returns the enforced policies that select an endpoint, and that apply to packets to it, or from it. */
function selecting(
  world: World,
  endpoint: Omit<ReferenceEndpoint, 'namespace' | 'addresses'> & {
    readonly namespace: string | undefined;
  },
  way: Way,
): readonly ReferencePolicy[] {
  const labels = labelsOf(world, endpoint, endpoint.namespace);
  const type = way === 'ingress' ? 'Ingress' : 'Egress';
  return world.policies.filter(({ kind, namespace, spec }) => {
    if (kind.startsWith('Staged')) return false;
    if (kind === 'NetworkPolicy' && namespace !== endpoint.namespace) return false;
    const ofNamespace = inNamespace(spec.namespaceSelector ?? '', labels);
    const types = spec.types ?? ['Ingress', 'Egress'];
    return ofNamespace && types.includes(type) && selects(spec.selector ?? '', labels);
  });
}

/** Reports whether the policy of an endpoint allows the first packet of a connection to it, or from it. */
export function allows(
  world: World,
  endpoint: Omit<ReferenceEndpoint, 'namespace' | 'addresses'> & {
    readonly namespace: string | undefined;
  },
  way: Way,
  packet: Packet,
): boolean {
  const chosen = selecting(world, endpoint, way);
  const tierOf = ({ spec }: ReferencePolicy) => spec.tier ?? 'default';
  const names = [...new Set(chosen.map(tierOf))].toSorted((a, b) => {
    const [first, second] = [world.tiers.get(a), world.tiers.get(b)];
    if ((first === undefined) !== (second === undefined)) return first === undefined ? 1 : -1;
    const [x, y] = [first?.order ?? Infinity, second?.order ?? Infinity];
    return x === y ? (a < b ? -1 : 1) : x < y ? -1 : 1;
  });
  for (const tier of names) {
    const policies = chosen
      .filter((policy) => tierOf(policy) === tier)
      .toSorted((a, b) => {
        const [x, y] = [a.spec.order ?? Infinity, b.spec.order ?? Infinity];
        if (x !== y) return x < y ? -1 : 1;
        const text = (one: ReferencePolicy) => `${one.name}/${one.namespace ?? ''}/${one.kind}`;
        return text(a) < text(b) ? -1 : 1;
      });
    const said = policies
      .map((policy) => judge(world, policy, { way, packet }))
      .find((one) => one !== undefined);
    const otherwise = world.tiers.get(tier)?.defaultAction ?? 'Deny';
    const verdict = said ?? (world.allTiersPass === true ? 'Pass' : otherwise);
    if (verdict !== 'Pass') return verdict === 'Allow';
  }
  for (const name of endpoint.profiles) {
    const profile = world.profiles.get(name);
    if (profile === undefined) return false;
    const verdict = judge(world, { spec: profile }, { way, packet });
    if (verdict === 'Allow' || verdict === 'Deny') return verdict === 'Allow';
  }
  return false;
}

/** What policies of a host endpoint judge. */
export type ReferenceStage = 'untracked' | 'preDnat' | 'local' | 'forwarded';

/**
 * Reports what a host endpoint does with the first packet of a connection at one stage. At the first two, and with
 * forwarded packets, it may leave the decision to what follows.
 */
export function hostVerdict(
  world: World,
  host: ReferenceHost,
  {
    way,
    stage,
    packet,
  }: { readonly way: Way; readonly stage: ReferenceStage; readonly packet: Packet },
): 'allow' | 'deny' | 'none' {
  const here = {
    ...world,
    allTiersPass: stage === 'untracked' || stage === 'preDnat',
    policies: world.policies.filter((one) => isAt(one, stage)),
  };
  const open = { ingress: [{ action: 'Allow' as const }], egress: [{ action: 'Allow' as const }] };
  const withOpen = { ...here, profiles: new Map([...world.profiles, ['otherwise open', open]]) };
  const own = { ...host, namespace: undefined };
  if (stage === 'local') return allows(here, own, way, packet) ? 'allow' : 'deny';
  // Labels are inherited from Profiles; what these allow does not count here.
  const labels = Object.fromEntries(labelsOf(world, host, undefined));
  const judged = (profiles: readonly string[]) =>
    allows(withOpen, { labels, profiles, namespace: undefined }, way, packet);
  if (judged([])) return 'allow';
  return judged(['otherwise open']) ? 'none' : 'deny';
}

/** Reports whether policies of a host endpoint judge packets of one direction at a stage. */
export function judges(
  world: World,
  host: ReferenceHost,
  stage: ReferenceStage,
  way: Way,
): boolean {
  const here = { ...world, policies: world.policies.filter((one) => isAt(one, stage)) };
  return selecting(here, { ...host, namespace: undefined }, way).length > 0;
}

function isAt({ spec }: ReferencePolicy, stage: ReferenceStage): boolean {
  const { doNotTrack = false, preDNAT = false, applyOnForward = false } = spec;
  if (stage === 'untracked') return doNotTrack;
  if (stage === 'preDnat') return preDNAT;
  return !doNotTrack && !preDNAT && (stage === 'local' || applyOnForward);
}

function judge(
  world: World,
  { spec, namespace }: Pick<ReferencePolicy, 'namespace' | 'spec'>,
  { way, packet }: { readonly way: Way; readonly packet: Packet },
): 'Allow' | 'Deny' | 'Pass' | undefined {
  for (const rule of spec[way] ?? []) {
    const withDomains = way === 'egress' && rule.action === 'Allow';
    const matched = matchesRule(world, rule, { namespace, withDomains, packet });
    if (rule.action !== 'Log' && matched) return rule.action;
  }
  return undefined;
}

const numbers: Readonly<Record<string, number>> = {
  TCP: 6,
  UDP: 17,
  ICMP: 1,
  ICMPv6: 58,
  SCTP: 132,
};

function matchesRule(
  world: World,
  rule: PolicyRule,
  {
    namespace,
    withDomains,
    packet,
  }: {
    readonly namespace: string | undefined;
    /** Whether the destination may be an address of a domain name. */
    readonly withDomains: boolean;
    readonly packet: Packet;
  },
): boolean {
  const number = (of: string | number | undefined) => (typeof of === 'string' ? numbers[of] : of);
  if (rule.ipVersion !== undefined && rule.ipVersion !== familyOf(packet.source)) return false;
  if (rule.protocol !== undefined && number(rule.protocol) !== packet.protocol) return false;
  if (rule.notProtocol !== undefined && number(rule.notProtocol) === packet.protocol) return false;
  const isIcmp = ({ type, code }: { type?: number; code?: number }) =>
    type === undefined ||
    (type === packet.icmpType && (code === undefined || code === packet.icmpCode));
  if (rule.icmp !== undefined && !isIcmp(rule.icmp)) return false;
  if (rule.notICMP?.type !== undefined && isIcmp(rule.notICMP)) return false;
  return (
    matchesEnd(world, rule.source ?? {}, namespace, {
      address: packet.source,
      port: packet.sourcePort,
      protocol: packet.protocol,
      withDomains: false,
    }) &&
    matchesEnd(world, rule.destination ?? {}, namespace, {
      address: packet.destination,
      port: packet.destinationPort,
      protocol: packet.protocol,
      withDomains,
    })
  );
}

function matchesEnd(
  world: World,
  entity: EntityRule,
  namespace: string | undefined,
  {
    address,
    port,
    protocol,
    withDomains,
  }: { address: IpAddress; port: number; protocol: number; withDomains: boolean },
): boolean {
  const hasName = (name: string) =>
    world.endpoints.some(
      ({ addresses, ports = [] }) =>
        addresses.includes(address) &&
        ports.some((one) => one.name === name && one.port === port && one.protocol === protocol),
    );
  const isPort = (ports: EntityRule['ports']) =>
    ports?.some((one) => {
      if (typeof one === 'string' && /[a-z]/.test(one)) return hasName(one);
      const [first, last] = String(one).split(':').map(Number);
      return (first ?? 0) <= port && port <= (last ?? first ?? 0);
    });
  const isNet = (nets: EntityRule['nets']) => nets?.some((net) => cidrContains(net, address));
  if (isNet(entity.nets) === false || isNet(entity.notNets) === true) return false;
  if (isPort(entity.ports) === false || isPort(entity.notPorts) === true) return false;
  const { selector = '', notSelector = '', namespaceSelector = '' } = entity;
  const isOwn = namespaceSelector === '' && namespace !== undefined;
  if (selector === '' && namespaceSelector === '' && (notSelector === '' || !isOwn)) {
    return (
      notSelector === '' ||
      !itemsAt(world, address, false).some((labels) => selects(notSelector, labels))
    );
  }
  return itemsAt(world, address, withDomains).some(
    (labels) =>
      (isOwn ? labels.get(namespaceKey) === namespace : inNamespace(namespaceSelector, labels)) &&
      selects(selector, labels) &&
      (notSelector === '' || !selects(notSelector, labels)),
  );
}

type Labels = ReadonlyMap<string, string>;

const namespaceKey = 'projectcalico.org/namespace';

function selects(selector: string, labels: Labels): boolean {
  return selector === '' || matches(parseSelector(selector), labels);
}

/** The labels of a namespace are inherited, each with a prefix. */
function inNamespace(selector: string, labels: Labels): boolean {
  if (selector === '') return true;
  if (selector === 'global()') return !labels.has(namespaceKey);
  if (selector === 'all()') return labels.has(namespaceKey);
  const own = [...labels].flatMap(([key, value]) =>
    key.startsWith('pcns.') ? [[key.slice('pcns.'.length), value] as const] : [],
  );
  return selects(selector, new Map(own));
}

/** The labels of each endpoint and network set that has an address, by a domain name too or not. */
function itemsAt(world: World, address: IpAddress, withDomains: boolean): readonly Labels[] {
  return [
    ...world.endpoints
      .filter(({ addresses }) => addresses.includes(address))
      .map((one) => labelsOf(world, one, one.namespace)),
    ...world.sets
      .filter(
        ({ nets, domains = [] }) =>
          nets.some((net) => cidrContains(net, address)) ||
          (withDomains && domains.includes(address)),
      )
      .map((one) =>
        labelsOf(
          world,
          {
            labels: one.labels,
            profiles: one.namespace === undefined ? [] : [`kns.${one.namespace}`],
          },
          one.namespace,
        ),
      ),
  ];
}

/** Own labels win, then those of the first Profile. */
function labelsOf(
  { profiles }: World,
  item: Pick<ReferenceEndpoint, 'labels' | 'profiles'>,
  namespace: string | undefined,
): Labels {
  const labels = new Map<string, string>();
  for (const name of item.profiles.toReversed()) {
    for (const [key, value] of Object.entries(profiles.get(name)?.labelsToApply ?? {})) {
      labels.set(key, value);
    }
  }
  for (const [key, value] of Object.entries(item.labels)) labels.set(key, value);
  if (namespace !== undefined) labels.set(namespaceKey, namespace);
  return labels;
}
