import { familyOf } from '../../../src/ip/address.ts';
import type { DifferenceLab } from './lab.ts';
import { icmp, icmpv6, otherProtocol, sctp, tcp, type Packet } from './packets.ts';
import { addresses, isContainer, isHost, type Place } from './places.ts';
import { connectionKeys, Walk, type Arrival, type HostsWorld, type Sent } from './walk.ts';
import type { Drawn } from './worlds.ts';

/** What the kernel did with one packet, and what it should have done. */
export interface Decision {
  readonly sent: Sent;
  readonly drawn: Drawn;
  readonly expected: Place | undefined;
  readonly actual: Place | undefined;
}

/** A connection that both ends have used, for packets after the next change of the resources. */
interface Established {
  readonly drawn: Drawn;
  readonly sent: Sent;
  /** The number of the answer. */
  readonly answer: number;
}

/** Sends packets under one set of resources after the other, and compares what arrives with what the reference says. */
export class Rounds {
  readonly #lab: DifferenceLab;
  readonly #patienceMs: number | undefined;
  #established: readonly Established[] = [];
  #walk: Walk | undefined;

  /** `patienceMs`: how long a packet that must arrive has. */
  constructor(lab: DifferenceLab, patienceMs?: number) {
    this.#lab = lab;
    this.#patienceMs = patienceMs;
  }

  /**
   * Sends packets of connections of the round before, then first packets, then what follows these. The resources have
   * been written.
   */
  async run(world: HostsWorld, drawn: readonly Drawn[]): Promise<readonly Decision[]> {
    const before = await this.#later(world);
    this.#lab.flush();
    const walk = new Walk(world);
    this.#walk = walk;
    const keys = new Set<string>();
    const firsts = drawn.flatMap((one) => {
      const id = this.#lab.nextNumber();
      const packet: Packet = { ...one.packet, id, flow: id, part: 'first', acknowledges: 0 };
      const own = connectionKeys(packet);
      if (own.some((key) => keys.has(key))) return [];
      for (const key of own) keys.add(key);
      return [{ drawn: one, sent: { packet, from: one.from } }];
    });
    const first = await this.#compare(walk, firsts);
    const following = first.flatMap(({ drawn: one, sent, expected, arrival }) =>
      one.sequel === 'nothing' || expected === undefined || arrival === undefined
        ? []
        : this.#following(one, sent, arrival),
    );
    const second = await this.#compare(walk, following);
    this.#established = second.flatMap(({ drawn: one, sent, expected }) => {
      const { part, protocol, flow, id } = sent.packet;
      const isOver = [sctp, otherProtocol].includes(protocol);
      const origin = firsts.find((first_) => first_.sent.packet.id === flow);
      return part !== 'reply' || expected === undefined || isOver || origin === undefined
        ? []
        : [{ drawn: one, sent: origin.sent, answer: id }];
    });
    return [...before, ...first, ...second];
  }

  /** Packets of connections that exist, under the resources of today. */
  async #later(world: HostsWorld): Promise<readonly Decision[]> {
    const walk = new Walk(world, this.#walk);
    const again = this.#established.map(({ drawn, sent, answer }) => ({
      drawn,
      sent: {
        from: sent.from,
        packet: {
          ...sent.packet,
          id: this.#lab.nextNumber(),
          part: 'again' as const,
          acknowledges: answer,
        },
      },
    }));
    return this.#compare(walk, again);
  }

  #following(
    drawn: Drawn,
    { packet }: Sent,
    { place, packet: seen }: Arrival,
  ): readonly { readonly drawn: Drawn; readonly sent: Sent }[] {
    const id = this.#lab.nextNumber();
    const { protocol } = packet;
    const family = familyOf(packet.source);
    // Rules before connection tracking may accept the reset by which a host ends the connection itself.
    if (protocol === tcp && (isHost(place) || isHost(drawn.from))) return [];
    if (drawn.sequel === 'reply') {
      const isOneWay = packet.icmpType === 13 && protocol === icmp;
      const reply: Packet = {
        ...seen,
        id,
        source: seen.destination,
        destination: seen.source,
        sourcePort: seen.destinationPort,
        destinationPort: seen.sourcePort,
        icmpType: family === 4 ? 0 : 129,
        part: 'reply',
        acknowledges: packet.id,
      };
      return isOneWay ? [] : [{ drawn, sent: { packet: reply, from: place } }];
    }
    const forger: Place = place === 'a' ? 'b' : 'a';
    const from = drawn.sequel === 'error' || !isContainer(place) ? place : forger;
    // An error of oneself would stay on this side of the interface.
    if (addresses[from][family] === seen.source) return [];
    const error: Packet = {
      ...seen,
      id,
      source: addresses[from][family],
      destination: seen.source,
      protocol: family === 4 ? icmp : icmpv6,
      icmpType: family === 4 ? 3 : 1,
      icmpCode: family === 4 ? 13 : 1,
      shape: 'plain',
      quoted: seen,
    };
    return [{ drawn, sent: { packet: error, from } }];
  }

  async #compare(
    walk: Walk,
    all: readonly { readonly drawn: Drawn; readonly sent: Sent }[],
  ): Promise<readonly (Decision & { readonly arrival: Arrival | undefined })[]> {
    if (all.length === 0) return [];
    const arrivals = all.map(({ sent }) => walk.send(sent));
    const actual = await this.#lab.send(
      all.map(({ sent }) => sent),
      (index) => arrivals[index] !== undefined,
      this.#patienceMs,
    );
    return all.map((one, index) => ({
      ...one,
      arrival: arrivals[index],
      expected: arrivals[index]?.place,
      actual: actual[index],
    }));
  }
}
