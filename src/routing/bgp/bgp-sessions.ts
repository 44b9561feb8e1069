import { familyOf, tryParseAddress, type IpAddress, type IpFamily } from '../../ip/address.ts';
import type { Cidr } from '../../ip/cidr.ts';
import { defaultAsNumber, parsePeerAddress } from '../../model/bgp.ts';
import type { BgpPeer } from '../../model/kinds/bgp-peer.ts';
import type { Node } from '../../model/kinds/node.ts';
import { matches } from '../../model/selector/matches.ts';
import { parseSelector } from '../../model/selector/parse.ts';
import { underlayOf } from '../peers.ts';
import { sortedByName, type BgpInputs, type BgpProblem } from './bgp-inputs.ts';
import { optionsOf, type SessionOptions } from './session-options.ts';

/** One BGP session of this node, which carries the routes of the family of its addresses. */
export interface BgpSession extends SessionOptions {
  /** Unique; `Mesh_`, `Global_` or `Node_` and the peer's address, as calicoctl expects it. */
  readonly name: string;
  readonly kind: 'mesh' | 'global' | 'node';
  readonly family: IpFamily;
  /** The resource that asks for it: `BGPPeer rack-1`. */
  readonly resource: string;
  /** The peer's node, if it is one. */
  readonly peerNode: string | undefined;
  readonly peer: IpAddress;
  readonly port: number;
  readonly peerAs: number;
  readonly localAs: number;
  /** The port that this node listens on. */
  readonly localPort: number;
  /** The source address; `undefined`: the kernel chooses. */
  readonly source: IpAddress | undefined;
  /** Only the peer connects. */
  readonly isPassive: boolean;
  /** The cluster ID, if the peer is a client of this route reflector. */
  readonly clusterId: string | undefined;
  readonly nextHop: 'self' | 'keep' | undefined;
}

const bgpPort = 179;

export interface SessionsFound {
  readonly sessions: readonly BgpSession[];
  readonly problems: readonly BgpProblem[];
}

/**
 * Returns the sessions of a node: the node-to-node mesh, and those of BGPPeers. Of several to one address, the first
 * one stands: those of the node, then global ones, then the mesh. Source: confd/etc/calico/confd/templates/bird.cfg.template.
 */
export function sessionsOf(inputs: BgpInputs): SessionsFound {
  const finder = new SessionFinder(inputs);
  finder.find();
  return finder;
}

interface SessionRequest {
  readonly kind: BgpSession['kind'];
  readonly resource: string;
  readonly peer: IpAddress;
  readonly port: number | undefined;
  readonly peerNode: string | undefined;
  readonly spec: BgpPeer['spec'];
  readonly annotations: Readonly<Record<string, string>>;
}

class SessionFinder implements SessionsFound {
  readonly sessions: BgpSession[] = [];
  readonly problems: BgpProblem[] = [];
  readonly #inputs: BgpInputs;
  readonly #own: Node | undefined;
  readonly #ofAll: BgpInputs['configurations'] extends ReadonlyMap<string, infer C>
    ? C | undefined
    : never;
  /** Of this host. */
  readonly #networks: readonly Cidr[];
  readonly #ownAddresses: Addresses;
  readonly #addresses = new Map<string, Addresses>();
  readonly #nodeOf = new Map<IpAddress, string>();
  readonly #nodes: readonly (readonly [string, Node])[];
  readonly #byNeighbour = new Map<string, BgpSession>();

  constructor(inputs: BgpInputs) {
    this.#inputs = inputs;
    this.#own = inputs.nodes.get(inputs.node);
    this.#ofAll = inputs.configurations.get('default');
    this.#networks = [...inputs.connected, ...subnetsOf(this.#own)];
    this.#ownAddresses = addressesOf(this.#own);
    this.#nodes = sortedByName(inputs.nodes);
    for (const [name, node] of this.#nodes) {
      const addresses = addressesOf(node);
      this.#addresses.set(name, addresses);
      for (const address of [addresses[4], addresses[6]]) {
        if (address !== undefined) this.#nodeOf.set(address, name);
      }
    }
  }

  find(): void {
    if (this.#own === undefined) return;
    const isOfNode = (peer: BgpPeer) => (peer.spec.node ?? '') !== '';
    const sorted = sortedByName(this.#inputs.peers).map(([, peer]) => peer);
    for (const peer of sorted.filter(isOfNode)) this.#addPeer(peer);
    for (const peer of sorted.filter((one) => !isOfNode(one))) this.#addPeer(peer);
    if (this.#ofAll?.spec.nodeToNodeMeshEnabled !== false) this.#addMesh();
  }

  #addMesh(): void {
    if (isReflector(this.#own)) return;
    const { nodeMeshPassword, nodeMeshMaxRestartTime } = this.#ofAll?.spec ?? {};
    const spec: BgpPeer['spec'] = {
      ...(nodeMeshPassword === undefined ? {} : { password: nodeMeshPassword }),
      ...(nodeMeshMaxRestartTime === undefined ? {} : { maxRestartTime: nodeMeshMaxRestartTime }),
    };
    const resource = 'BGPConfiguration default';
    for (const [name, node] of this.#nodes) {
      if (name === this.#inputs.node || isReflector(node)) continue;
      this.#addNode(name, { kind: 'mesh', resource, spec, annotations: {} });
    }
  }

  #addPeer({ metadata, spec }: BgpPeer): void {
    const resource = `BGPPeer ${metadata.name}`;
    const annotations = metadata.annotations ?? {};
    const kind = (spec.node ?? '') === '' ? 'global' : 'node';
    const about = { kind, resource, spec, annotations } as const;
    try {
      const hasThis = selects(spec, this.#inputs.node, this.#own);
      const isSelected = parsed(spec.peerSelector);
      if (isSelected === undefined) {
        if (!hasThis) return;
        this.#addAddress(about);
        return;
      }
      const isReversed =
        spec.reversePeering !== 'Manual' && isSelected(this.#own) && this.#own !== undefined;
      for (const [name, node] of this.#nodes) {
        if (name === this.#inputs.node) continue;
        const isPeer = hasThis && isSelected(node);
        if (isPeer || (isReversed && selects(spec, name, node))) this.#addNode(name, about);
      }
    } catch (error) {
      this.#problem(resource, '', error instanceof Error ? error.message : String(error));
    }
  }

  #addNode(name: string, about: Omit<SessionRequest, 'peer' | 'port' | 'peerNode'>): void {
    const addresses = this.#addresses.get(name);
    for (const family of [4, 6] as const) {
      const peer = addresses?.[family];
      if (peer === undefined || this.#ownAddresses[family] === undefined) continue;
      if (peer === this.#ownAddresses[family]) continue;
      this.#add({ ...about, peer, port: undefined, peerNode: name });
    }
  }

  #addAddress(about: Omit<SessionRequest, 'peer' | 'port' | 'peerNode'>): void {
    const { resource, spec, kind } = about;
    if ((spec.localWorkloadSelector ?? '') !== '') {
      this.#problem(resource, 'spec.localWorkloadSelector', 'BGP with containers is not supported');
      return;
    }
    const found = parsePeerAddress(spec.peerIP ?? '');
    if (found === undefined) {
      this.#problem(resource, 'spec.peerIP', `"${spec.peerIP ?? ''}" is not an IP address`);
      return;
    }
    const { address: peer, port } = found;
    if (Object.values(this.#ownAddresses).includes(peer)) {
      // One that concerns several nodes names one of them, which has no session with itself.
      if (kind === 'node')
        this.#problem(resource, 'spec.peerIP', 'is the address of the node itself');
      return;
    }
    const peerNode = this.#nodeOf.get(peer);
    this.#add({ ...about, peer, port, peerNode });
  }

  #add(request: SessionRequest): void {
    const { kind, resource, peer, peerNode, spec } = request;
    const node = peerNode === undefined ? undefined : this.#inputs.nodes.get(peerNode);
    const family = familyOf(peer);
    const own = this.#ownAddresses[family];
    if (own === undefined) {
      const why = `this node has no IPv${family} address for a session with ${peer}`;
      this.#problem(resource, 'spec.peerIP', why);
      return;
    }
    const port = request.port ?? (peerNode === undefined ? bgpPort : this.#portOf(peerNode));
    const neighbour = `${peer} ${port}`;
    const existing = this.#byNeighbour.get(neighbour);
    if (existing !== undefined) {
      if (
        existing.resource !== resource &&
        existing.resource.startsWith('BGPPeer') &&
        kind !== 'mesh'
      ) {
        const why = `${existing.resource} has a session with ${peer} already; this one is not used`;
        this.#problem(resource, 'spec.peerIP', why);
      }
      return;
    }
    const ownAs = this.#asOf(this.#own);
    const peerAs = node === undefined ? spec.asNumber : this.#asOf(node);
    if (peerAs === undefined) {
      this.#problem(resource, 'spec.asNumber', `is missing, and ${peer} is not a node`);
      return;
    }
    const source = spec.sourceAddress === 'None' ? undefined : own;
    const localAs = spec.localASNumber ?? ownAs;
    const place = { source, networks: this.#networks, asNumbers: [localAs, peerAs] } as const;
    const { options, problems } = optionsOf(request, place, this.#inputs);
    for (const { field, why } of problems) this.#problem(resource, field, why);
    if (problems.length > 0) return;
    const isInternal = peerAs === localAs;
    const clusterId = this.#own?.spec.bgp?.routeReflectorClusterID ?? '';
    const isClient =
      clusterId !== '' && isInternal && node?.spec.bgp?.routeReflectorClusterID !== clusterId;
    const names = { mesh: 'Mesh', global: 'Global', node: 'Node' } as const;
    const suffix = port === bgpPort || request.port === undefined ? '' : `_port_${port}`;
    if (isClient && tryParseAddress(clusterId)?.includes(':') !== false) {
      const why = `"${clusterId}" is not an IPv4 address`;
      this.#problem(`Node ${this.#inputs.node}`, 'spec.bgp.routeReflectorClusterID', why);
      return;
    }
    const session: BgpSession = {
      name: `${names[kind]}_${peer.replaceAll(/[.:]/g, '_')}${suffix}`,
      kind,
      family,
      resource,
      peerNode,
      peer,
      port,
      peerAs,
      localAs,
      localPort: this.#portOf(this.#inputs.node),
      source,
      // Exactly one side connects; both compare the texts, as Calico does.
      isPassive: peerNode !== undefined && peer > own,
      clusterId: isClient ? clusterId : undefined,
      nextHop: nextHopOf(spec, isInternal),
      ...options,
    };
    this.#byNeighbour.set(neighbour, session);
    this.sessions.push(session);
  }

  #asOf(node: Node | undefined): number {
    return node?.spec.bgp?.asNumber ?? this.#ofAll?.spec.asNumber ?? defaultAsNumber;
  }

  #portOf(node: string): number {
    return listenPortOf(node, this.#inputs);
  }

  #problem(resource: string, field: string, why: string): void {
    if (this.problems.some((one) => one.resource === resource && one.field === field)) return;
    this.problems.push({ resource, field, why });
  }
}

type Addresses = Readonly<Record<IpFamily, IpAddress | undefined>>;

/** The subnets of a node's addresses, which are known before its interfaces are. */
function subnetsOf(node: Node | undefined): readonly Cidr[] {
  const { ipv4Address, ipv6Address } = node?.spec.bgp ?? {};
  const underlays = [underlayOf(ipv4Address, 4), underlayOf(ipv6Address, 6)];
  return underlays.flatMap((underlay) => (underlay === undefined ? [] : [underlay.subnet]));
}

function addressesOf(node: Node | undefined): Addresses {
  const { ipv4Address, ipv6Address } = node?.spec.bgp ?? {};
  return { 4: addressOf(ipv4Address, 4), 6: addressOf(ipv6Address, 6) };
}

function addressOf(stored: string | undefined, family: IpFamily): IpAddress | undefined {
  const address = stored === undefined ? undefined : tryParseAddress(stored.split('/', 1)[0] ?? '');
  return address !== undefined && familyOf(address) === family ? address : undefined;
}

/** Returns the port that a node listens on for BGP. */
export function listenPortOf(
  node: string,
  { configurations }: Pick<BgpInputs, 'configurations'>,
): number {
  const own = configurations.get(`node.${node}`)?.spec.listenPort;
  const port = own ?? configurations.get('default')?.spec.listenPort ?? 0;
  return port === 0 ? bgpPort : port;
}

export function isReflector(node: Node | undefined): boolean {
  return (node?.spec.bgp?.routeReflectorClusterID ?? '') !== '';
}

/** Reports whether a BGPPeer is one of a node. */
function selects(spec: BgpPeer['spec'], name: string, node: Node | undefined): boolean {
  if ((spec.node ?? '') !== '') return spec.node === name;
  return parsed(spec.nodeSelector)?.(node) ?? true;
}

/** Returns a test of nodes by a selector; `undefined` without one. Throws if it cannot be parsed. */
function parsed(selector: string | undefined): ((node: Node | undefined) => boolean) | undefined {
  if (selector === undefined || selector === '') return undefined;
  const wanted = parseSelector(selector);
  return (node) => matches(wanted, new Map(Object.entries(node?.metadata.labels ?? {})));
}

function nextHopOf(spec: BgpPeer['spec'], isInternal: boolean): BgpSession['nextHop'] {
  if (spec.nextHopMode === 'Self') return 'self';
  if (spec.nextHopMode === 'Keep') return 'keep';
  return spec.keepOriginalNextHop === true && !isInternal ? 'keep' : undefined;
}
