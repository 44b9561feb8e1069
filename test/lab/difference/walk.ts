import { familyOf, type IpAddress } from '../../../src/ip/address.ts';
import {
  allows,
  hostVerdict,
  judges,
  type ReferenceHost,
  type ReferenceStage,
  type World,
} from '../../../src/profiles/reference.fixture.ts';
import { hasPorts, icmp, icmpv6, otherProtocol, tcp, sctp, type Packet } from './packets.ts';
import {
  addresses,
  containerNames,
  failsafePort,
  hostOf,
  interfaceTo,
  isContainer,
  isHost,
  placeOf,
  published,
  type Host,
  type Interface,
  type Place,
} from './places.ts';

/**
 * Says naively what becomes of a packet on its way through the hosts: spoofed sources, connection tracking, published
 * ports, and what the reference says of each endpoint on the way.
 */

/** Resources of two hosts. The endpoints are those of `containerNames`, in their order. */
export interface HostsWorld extends World {
  readonly hostEndpoints: readonly (ReferenceHost & {
    readonly host: Host;
    /** `*`: those without one of their own. */
    readonly interface: Interface | '*';
  })[];
}

/** A packet with where it is sent. */
export interface Sent {
  readonly packet: Packet;
  readonly from: Place;
}

/** Where a packet arrives, as its receiver sees it. */
export interface Arrival {
  readonly place: Place;
  readonly packet: Packet;
}

/** A connection as a host tracks it: both directions, before and after NAT. */
interface Connection {
  readonly original: Packet;
  readonly translated: Packet;
  hasReply: boolean;
}

type State = 'new' | 'established' | 'related' | 'invalid' | 'untracked';

/** A packet at a host, with what the host knows of it. */
interface Judged {
  readonly packet: Packet;
  readonly state: State;
  readonly isPublished: boolean;
}

export class Walk {
  readonly #world: HostsWorld;
  /** With the policies that judge containers. */
  readonly #ofContainers: World;
  readonly #tracked: Record<Host, Connection[]>;

  /** `before`: connections that exist. */
  constructor(world: HostsWorld, before?: Walk) {
    this.#world = world;
    const policies = world.policies.filter(
      ({ spec: { doNotTrack = false, preDNAT = false } }) => !doNotTrack && !preDNAT,
    );
    this.#ofContainers = { ...world, policies };
    this.#tracked = before === undefined ? { h1: [], h2: [] } : before.#tracked;
  }

  /** Sends a packet; `undefined`: it does not arrive. */
  send({ packet, from }: Sent): Arrival | undefined {
    const to = placeOf(packet.destination);
    if (to === undefined) return undefined;
    let host = hostOf(from, to);
    let by: Interface | Place = isHost(from) || isContainer(from) ? from : interfaceTo(host, from);
    let now = packet;
    for (;;) {
      const passed = this.#pass(host, by, now);
      if (passed === undefined) return undefined;
      const { next } = passed;
      const isThere = next === host || isOwn(host, next) || interfaceTo(host, next) !== 'fabric';
      if (isThere) return { place: next, packet: passed.packet };
      [host, by, now] = [host === 'h1' ? 'h2' : 'h1', 'fabric', passed.packet];
    }
  }

  /** What a host does with a packet: for whom it passes it on, or `undefined`. */
  #pass(
    host: Host,
    from: Interface | Place,
    arriving: Packet,
  ): { readonly next: Place; readonly packet: Packet } | undefined {
    const isLocal = from === host;
    const sender = isPlace(from) && isContainer(from) ? from : undefined;
    if (sender !== undefined && placeOf(arriving.source) !== sender) return undefined;
    const inside = isPlace(from) ? undefined : from;
    const before = inside && this.#guard(host, inside, 'untracked', 'ingress', arriving);
    const beforeNat = placeOf(arriving.destination);
    const leaving = isLocal ? this.#leavingInterface(host, beforeNat) : undefined;
    const out = leaving && this.#guard(host, leaving, 'untracked', 'egress', arriving);
    if (before === 'deny' || out === 'deny') return undefined;
    const isUntracked = before === 'allow' || out === 'allow';
    const found = isUntracked ? undefined : this.#find(host, arriving);
    const state = isUntracked ? 'untracked' : stateOf(arriving, found);
    let isAllowed = isUntracked;
    if (inside !== undefined && !isAllowed) {
      const verdict = this.#preDnat(host, inside, arriving, state);
      if (verdict === 'deny') return undefined;
      isAllowed = verdict === 'allow';
    }
    const isFirst = state === 'new' && found === undefined;
    const target = isFirst ? publishedAt(host, arriving) : undefined;
    const packet =
      target === undefined
        ? translated(arriving, found)
        : {
            ...arriving,
            destination: addresses[target.owner][familyOf(arriving.source)],
            destinationPort: target.port,
          };
    const isPublished =
      state === 'new' &&
      !isLocal &&
      published.some(({ owner, hostPort, isOpen }) => {
        const original = found?.connection.original ?? arriving;
        return (
          isOpen &&
          placeOf(packet.destination) === owner &&
          original.destinationPort === hostPort &&
          placeOf(original.destination) === host
        );
      });
    // Source NAT comes last.
    const judged = { packet: found?.direction === 'reply' ? arriving : packet, state, isPublished };
    const next = placeOf(packet.destination);
    if (next === undefined) return undefined;
    const accepted =
      next === host
        ? this.#toHost(host, from, judged, isAllowed)
        : isLocal
          ? this.#fromHost(host, next, judged, isUntracked)
          : this.#forward(host, from, next, judged, isAllowed);
    if (!accepted) return undefined;
    this.#track(host, { arriving, packet, state, found });
    return { next, packet };
  }

  #leavingInterface(host: Host, to: Place | undefined): Interface | undefined {
    if (to === undefined || to === host || isOwn(host, to)) return undefined;
    return interfaceTo(host, to);
  }

  #toHost(host: Host, from: Interface | Place, judged: Judged, isAllowed: boolean): boolean {
    if (isPlace(from)) {
      return !isContainer(from) || this.#container(from, 'egress', judged);
    }
    if (isAllowed) return true;
    return this.#local(host, from, 'ingress', judged);
  }

  #fromHost(host: Host, to: Place, judged: Judged, isUntracked: boolean): boolean {
    if (isOwn(host, to) || isUntracked) return true;
    return this.#local(host, interfaceTo(host, to), 'egress', judged);
  }

  #forward(
    host: Host,
    from: Interface | Place,
    to: Place,
    judged: Judged,
    isAllowed: boolean,
  ): boolean {
    if (!isPlace(from) && !isAllowed && !this.#forwarded(host, from, 'ingress', judged)) {
      return false;
    }
    const leaving = isOwn(host, to) ? undefined : interfaceTo(host, to);
    if (leaving !== undefined && !this.#forwarded(host, leaving, 'egress', judged)) return false;
    if (isPlace(from) && isContainer(from) && !this.#container(from, 'egress', judged))
      return false;
    return !(isContainer(to) && isOwn(host, to)) || this.#container(to, 'ingress', judged, from);
  }

  /** What a container's stack says. */
  #container(
    name: Place,
    way: 'ingress' | 'egress',
    { packet, state, isPublished }: Judged,
    from?: Interface | Place,
  ): boolean {
    if (state === 'established') return true;
    if (state === 'invalid') return false;
    if (state === 'related') {
      const { quoted } = packet;
      if (quoted === undefined || quoted.destination === packet.source) return true;
      const isOfContainer = from !== undefined && isPlace(from) && isContainer(from);
      // No address is one of a pool here.
      if (way === 'ingress' && !isOfContainer) return true;
    }
    const endpoint = this.#world.endpoints[containerNames.findIndex((one) => one === name)];
    if (endpoint === undefined) return false;
    if (allows(this.#ofContainers, endpoint, way, packet)) return true;
    if (way === 'egress' || !isPublished || endpoint.profiles.length === 0) return false;
    // Nothing denies it: it would be allowed by a last Profile that allows all.
    return this.#isUndecided(endpoint, packet);
  }

  #isUndecided(endpoint: World['endpoints'][number], packet: Packet): boolean {
    const last = 'otherwise open';
    const open = { ingress: [{ action: 'Allow' as const }] };
    const profiles = new Map([...this.#world.profiles, [last, open]]);
    const other = { ...endpoint, profiles: [...endpoint.profiles, last] };
    return allows({ ...this.#ofContainers, profiles }, other, 'ingress', packet);
  }

  #local(host: Host, at: Interface, way: 'ingress' | 'egress', judged: Judged): boolean {
    const covering = this.#covering(host, at);
    if (covering === undefined) return true;
    const { packet, state } = judged;
    if (state === 'established' || state === 'related') return true;
    if (state === 'invalid') return false;
    if (isFailsafe(packet)) return true;
    return hostVerdict(this.#world, covering, { way, stage: 'local', packet }) === 'allow';
  }

  #forwarded(host: Host, at: Interface, way: 'ingress' | 'egress', judged: Judged): boolean {
    const covering = this.#covering(host, at);
    const { packet, state } = judged;
    if (covering === undefined || !judges(this.#world, covering, 'forwarded', way)) return true;
    if (state === 'established' || state === 'related') return true;
    if (state === 'invalid') return false;
    return hostVerdict(this.#world, covering, { way, stage: 'forwarded', packet }) !== 'deny';
  }

  #preDnat(host: Host, at: Interface, packet: Packet, state: State): 'allow' | 'deny' | 'none' {
    const covering = this.#covering(host, at);
    if (covering === undefined || !judges(this.#world, covering, 'preDnat', 'ingress'))
      return 'none';
    if (state === 'established' || state === 'related') return 'none';
    if (state === 'invalid') return 'deny';
    return this.#guard(host, at, 'preDnat', 'ingress', packet);
  }

  #guard(
    host: Host,
    at: Interface,
    stage: ReferenceStage,
    way: 'ingress' | 'egress',
    packet: Packet,
  ): 'allow' | 'deny' | 'none' {
    const covering = this.#covering(host, at);
    if (covering === undefined || isFailsafe(packet, stage === 'untracked')) return 'none';
    return hostVerdict(this.#world, covering, { way, stage, packet });
  }

  #covering(host: Host, at: Interface): ReferenceHost | undefined {
    const here = this.#world.hostEndpoints.filter((one) => one.host === host);
    return here.find((one) => one.interface === at) ?? here.find((one) => one.interface === '*');
  }

  #find(host: Host, packet: Packet): Found | undefined {
    const { quoted } = packet;
    for (const connection of this.#tracked[host]) {
      const { original, translated: after } = connection;
      if (quoted !== undefined) {
        // The error goes back to the sender of what it quotes, which its receiver saw after NAT.
        if (isSameFlow(quoted, after)) return { connection, direction: 'reply' };
        if (isReverse(quoted, original)) return { connection, direction: 'original' };
        continue;
      }
      if (isSameFlow(packet, original)) return { connection, direction: 'original' };
      if (isReverse(packet, after)) return { connection, direction: 'reply' };
    }
    return undefined;
  }

  #track(
    host: Host,
    passed: {
      readonly arriving: Packet;
      readonly packet: Packet;
      readonly state: State;
      readonly found: Found | undefined;
    },
  ): void {
    const { arriving, packet, state, found } = passed;
    if (state === 'new' && found === undefined) {
      this.#tracked[host].push({ original: arriving, translated: packet, hasReply: false });
    }
    if (state === 'established' && found !== undefined) found.connection.hasReply = true;
  }
}

interface Found {
  readonly connection: Connection;
  readonly direction: 'original' | 'reply';
}

function stateOf(packet: Packet, found: Found | undefined): State {
  if (packet.quoted !== undefined) return found === undefined ? 'invalid' : 'related';
  const { protocol, part } = packet;
  if (found !== undefined) {
    if (found.direction === 'reply' || found.connection.hasReply) return 'established';
    // The answer was not tracked, and TCP expects none but that after the first packet.
    return protocol === tcp && part === 'again' ? 'invalid' : 'new';
  }
  if (part === 'first') return 'new';
  // Answers and later packets of a connection that is unknown.
  if (protocol === icmp || protocol === icmpv6 || protocol === sctp) {
    return part === 'reply' ? 'invalid' : 'new';
  }
  // The kernel picks up connections from packets without SYN.
  return protocol === tcp && part === 'reply' ? 'invalid' : 'new';
}

/** What NAT makes of a packet of a connection that is known. */
function translated(packet: Packet, found: Found | undefined): Packet {
  if (found === undefined) return packet;
  const { original, translated: after } = found.connection;
  if (original.destination === after.destination) return packet;
  if (found.direction === 'original') {
    return { ...packet, destination: after.destination, destinationPort: after.destinationPort };
  }
  if (packet.quoted === undefined) {
    return { ...packet, source: original.destination, sourcePort: original.destinationPort };
  }
  const { destination, destinationPort } = original;
  return {
    ...packet,
    source: destination,
    quoted: { ...packet.quoted, destination, destinationPort },
  };
}

function publishedAt(host: Host, { protocol, destination, destinationPort }: Packet) {
  if (placeOf(destination) !== host) return undefined;
  return published.find(
    (one) =>
      isOwn(host, one.owner) && one.protocol === protocol && one.hostPort === destinationPort,
  );
}

function isFailsafe(packet: Packet, withReplies = false): boolean {
  if (!['6', '17'].includes(String(packet.protocol))) return false;
  return (
    packet.destinationPort === failsafePort || (withReplies && packet.sourcePort === failsafePort)
  );
}

/** Reports whether a place is a container of the host, or behind it. */
function isOwn(host: Host, place: Place): boolean {
  return isContainer(place) && hostOf(place, place) === host;
}

function isPlace(name: Interface | Place): name is Place {
  return name !== 'uplink' && name !== 'fabric' && name !== 'br-lan';
}

function portsOf({
  protocol,
  sourcePort,
  destinationPort,
  flow,
}: Packet): readonly [number, number] {
  if (protocol === icmp || protocol === icmpv6) return [flow, flow];
  return hasPorts(protocol) && protocol !== otherProtocol ? [sourcePort, destinationPort] : [0, 0];
}

function isSameFlow(one: Packet, other: Packet): boolean {
  return (
    one.protocol === other.protocol &&
    one.source === other.source &&
    one.destination === other.destination &&
    portsOf(one).join() === portsOf(other).join()
  );
}

function isReverse(one: Packet, other: Packet): boolean {
  return isSameFlow(
    {
      ...one,
      source: one.destination,
      destination: one.source,
      sourcePort: one.destinationPort,
      destinationPort: one.sourcePort,
    },
    other,
  );
}

/**
 * Returns what distinguishes connections whose packets may be confused: the ends, in any order, as the sender sees them
 * and as the receiver does. Two hosts that send to each other's published port have one connection for both on each
 * host, whose first packet is that of the one or the other.
 */
export function connectionKeys(packet: Packet): readonly string[] {
  const host = hosts(packet.destination);
  const target = host === undefined ? undefined : publishedAt(host, packet);
  const sent = [packet.destination, portsOf(packet)[1]] as const;
  const received =
    target === undefined
      ? sent
      : ([addresses[target.owner][familyOf(packet.source)], target.port] as const);
  const source = `${packet.source} ${portsOf(packet)[0]}`;
  return [sent, received].map(
    (end) => `${packet.protocol} ${[source, end.join(' ')].toSorted().join(' ')}`,
  );
}

function hosts(address: IpAddress): Host | undefined {
  const place = placeOf(address);
  return place !== undefined && isHost(place) ? place : undefined;
}
