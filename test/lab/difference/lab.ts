import { execFileSync, fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Backend } from '../../../src/dataplane/iptables/tables.ts';
import { flushFlows } from '../../../src/dataplane/netlink/conntrack.ts';
import type { Libc } from '../../../src/dataplane/netlink/libc.ts';
import { inNetworkNamespace } from '../../../src/dataplane/netlink/network-namespace.ts';
import { NetlinkSocket } from '../../../src/dataplane/netlink/socket.ts';
import {
  addressToBytes,
  familyOf,
  type IpAddress,
  type IpFamily,
} from '../../../src/ip/address.ts';
import { eventually } from '../poll.ts';
import type { Change, Done } from './host-process.ts';
import { bytesOf, icmp, icmpv6, numberOf, protocols, udp, type Packet } from './packets.ts';
import {
  addresses,
  failsafePort,
  hosts,
  isContainer,
  containers,
  places,
  type Host,
  type Place,
} from './places.ts';
import { entriesOf, type Entry } from './resources.ts';
import type { HostsWorld, Sent } from './walk.ts';

/** The network of `places.ts` in network namespaces, with two agents, and raw sockets everywhere. */

const families = [4, 6] as const satisfies readonly IpFamily[];
const socketFamily = { 4: 2, 6: 10 } as const;
const [rawSocket, rawProtocol, dontWait] = [3, 255, 0x40];

export class DifferenceLab implements AsyncDisposable {
  readonly #libc: Libc;
  readonly #namespace: string;
  readonly #children = new Map<Host, ChildProcess>();
  readonly #senders = new Map<string, number>();
  readonly #receivers: { place: Place; family: IpFamily; protocol: number; fd: number }[] = [];
  readonly #arrived = new Map<number, Place>();
  readonly #conntrack: NetlinkSocket[] = [];
  #stored: readonly Entry[] = [];
  #last = 1000;

  private constructor(libc: Libc, namespace: string) {
    this.#libc = libc;
    this.#namespace = namespace;
  }

  /** `namespace` begins the names of the network namespaces. */
  static async start(libc: Libc, namespace: string, backend: Backend): Promise<DifferenceLab> {
    const lab = new DifferenceLab(libc, namespace);
    for (const place of ['h1', 'h2', 'lan', 'out']) {
      sh(`ip netns add ${namespace}-${place}
          in="ip netns exec ${namespace}-${place}"
          $in sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \\
            net.ipv4.icmp_ratelimit=0 net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
          $in ip link set lo up`);
    }
    const script = fileURLToPath(new URL('host-process.ts', import.meta.url));
    for (const host of hosts) {
      const child = fork(script, [host, namespace, backend], { stdio: 'inherit' });
      lab.#children.set(host, child);
    }
    await Promise.all(hosts.map((host) => lab.#answer(host)));
    lab.#connect(backend);
    for (const place of places) lab.#openSockets(place);
    for (const host of hosts) {
      lab.#conntrack.push(lab.#inside(host, () => NetlinkSocket.open(libc, 12)));
    }
    return lab;
  }

  /** Replaces all resources, and waits until both hosts have them. */
  async set(world: HostsWorld): Promise<void> {
    const stored = entriesOf(world);
    const key = ({ kind, id }: Pick<Entry, 'kind' | 'id'>) => `${kind} ${id}`;
    const kept = new Set(stored.map(key));
    const removed = this.#stored
      .filter((one) => !kept.has(key(one)))
      .map(({ kind, id }) => ({ kind, id }));
    this.#stored = stored;
    await Promise.all(
      hosts.map(async (host) => {
        const answer = this.#answer(host);
        this.#children.get(host)?.send({ removed, stored } satisfies Change);
        await answer;
      }),
    );
  }

  /** Ends all connections. */
  flush(): void {
    for (const socket of this.#conntrack) flushFlows(socket, families, () => true);
  }

  nextNumber(): number {
    return ++this.#last;
  }

  /** Sends packets, and returns where each arrives: at once if all that should arrive have, otherwise after a while. */
  async send(
    sent: readonly Sent[],
    isExpected: (index: number) => boolean,
    patienceMs = 10_000,
  ): Promise<readonly (Place | undefined)[]> {
    for (const { packet, from } of sent) {
      for (const bytes of bytesOf(packet)) this.#sendTo(from, bytes, packet.destination);
    }
    const arrived = () => {
      this.#receive();
      return sent.every(({ packet }, index) => !isExpected(index) || this.#arrived.has(packet.id));
    };
    if (!arrived()) await eventually(arrived, patienceMs);
    // The kernel delivers in order: what has not arrived before these will not arrive.
    const sentinels = places.flatMap((place) =>
      families.map((family) => this.#sentinel(place, family)),
    );
    const areThere = () => {
      this.#receive();
      return sentinels.every((id) => this.#arrived.has(id));
    };
    if (!areThere() && !(await eventually(areThere))) {
      throw new Error('the failsafe ports are closed');
    }
    const found = sent.map(({ packet }) => this.#arrived.get(packet.id));
    this.#arrived.clear();
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#conntrack) socket.close();
    for (const { fd } of this.#receivers) this.#libc.close(fd);
    for (const fd of this.#senders.values()) this.#libc.close(fd);
    await Promise.all(
      [...this.#children.values()].map(async (child) => {
        const exited = once(child, 'exit');
        child.disconnect();
        await exited;
      }),
    );
    for (const place of places) sh(`ip netns del ${this.#namespace}-${place} 2>/dev/null || true`);
  }

  /** Sends a packet that always arrives: to a failsafe port of a host, or from the host next to a place. */
  #sentinel(place: Place, family: IpFamily): number {
    const id = this.nextNumber();
    const next: Place = isContainer(place)
      ? containers[place].host
      : place === 'h1' || place === 'h2'
        ? 'out'
        : 'h1';
    const destination = addresses[place][family];
    const packet: Packet = {
      id,
      source: addresses[next][family],
      destination,
      protocol: udp,
      sourcePort: 9,
      destinationPort: failsafePort,
      icmpType: 0,
      icmpCode: 0,
      shape: 'plain',
      part: 'first',
      flow: id,
      acknowledges: 0,
    };
    for (const bytes of bytesOf(packet)) this.#sendTo(next, bytes, destination);
    return id;
  }

  async #answer(host: Host): Promise<void> {
    const child = this.#children.get(host);
    if (child === undefined) throw new Error(`no process of ${host}`);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    const [{ problem }] = (await once(child, 'message', {
      signal: AbortSignal.timeout(150_000),
    })) as [Done];
    if (problem !== undefined) throw new Error(`${host}: ${problem}`);
  }

  #inside<T>(place: Place, what: () => T): T {
    return inNetworkNamespace(this.#libc, `/run/netns/${this.#namespace}-${place}`, what);
  }

  #openSockets(place: Place): void {
    const libc = this.#libc;
    for (const family of families) {
      const open = (protocol: number) =>
        this.#inside(place, () => libc.socket(socketFamily[family], rawSocket, protocol));
      this.#senders.set(`${place} ${family}`, open(rawProtocol));
      const other = family === 4 ? icmpv6 : icmp;
      for (const protocol of protocols.filter((one) => one !== other)) {
        this.#receivers.push({ place, family, protocol, fd: open(protocol) });
      }
    }
  }

  #sendTo(place: Place, bytes: Buffer, to: IpAddress): void {
    const family = familyOf(to);
    const name = Buffer.alloc(family === 4 ? 16 : 28);
    name.writeUInt16LE(socketFamily[family], 0);
    Buffer.from(addressToBytes(to)).copy(name, family === 4 ? 4 : 8);
    const fd = this.#senders.get(`${place} ${family}`) ?? -1;
    // A packet that the host itself may not send is an error for the sender.
    this.#libc.sendto(fd, bytes, bytes.length, 0, name, name.length);
  }

  #receive(): void {
    const data = Buffer.alloc(2048);
    for (const { place, family, protocol, fd } of this.#receivers) {
      for (;;) {
        const length = this.#libc.recv(fd, data, data.length, dontWait);
        if (length <= 0) break;
        const id = numberOf(protocol, family, data.subarray(0, length));
        if (id !== 0) this.#arrived.set(id, place);
      }
    }
  }

  /** Links, addresses and routes between the places, with permanent neighbours: nothing is resolved on the way. */
  #connect(backend: Backend): void {
    const links = [
      ['h1', 'uplink', 'out', 'o1'],
      ['h2', 'uplink', 'out', 'o2'],
      ['h1', 'fabric', 'h2', 'fabric'],
      ['h1', 'br-lan', 'lan', 'eth0'],
    ] as const;
    const ip = (place: Place) => `ip -n ${this.#namespace}-${place}`;
    for (const [index, [one, name, other, otherName]] of links.entries()) {
      const mac = (end: number) => `02:00:00:00:0${index}:0${end}`;
      sh(`${ip(one)} link add ${name} address ${mac(1)} type veth peer name ${otherName} address ${mac(2)} netns ${this.#namespace}-${other}
          ${ip(one)} link set ${name} up
          ${ip(other)} link set ${otherName} up`);
      for (const family of families) {
        sh(`${ip(one)} neigh replace ${addresses[other][family]} lladdr ${mac(2)} dev ${name} nud permanent
            ${ip(other)} neigh replace ${addresses[one][family]} lladdr ${mac(1)} dev ${otherName} nud permanent`);
      }
    }
    for (const family of families) {
      for (const place of ['h1', 'h2', 'lan', 'out'] as const) {
        const flags = family === 6 ? 'nodad' : '';
        sh(`${ip(place)} address add ${addresses[place][family]} dev lo ${flags}`);
      }
      const route = (place: Place, to: Place, via: Place, device: string) =>
        sh(
          `${ip(place)} route replace ${addresses[to][family]} via ${addresses[via][family]} dev ${device} onlink`,
        );
      for (const host of hosts) {
        const other = host === 'h1' ? 'h2' : 'h1';
        route(host, 'out', 'out', 'uplink');
        for (const to of [
          other,
          ...(host === 'h1' ? ['c' as const] : (['a', 'b', 'lan'] as const)),
        ] as const) {
          route(host, to, other, 'fabric');
        }
      }
      route('h1', 'lan', 'lan', 'br-lan');
      for (const to of ['h1', 'a', 'b', 'lan'] as const) route('out', to, 'h1', 'o1');
      for (const to of ['h2', 'c'] as const) route('out', to, 'h2', 'o2');
      for (const to of ['h1', 'h2', 'a', 'b', 'c', 'out'] as const) route('lan', to, 'h1', 'eth0');
    }
    // On a slow machine a round takes longer than the kernel remembers a connection of one packet each way.
    const timeouts = ['udp', 'icmp', 'icmpv6', 'generic'].map(
      (name) => `net.netfilter.nf_conntrack_${name}_timeout=600`,
    );
    for (const host of hosts) {
      sh(`ip netns exec ${this.#namespace}-${host} sysctl -qw ${timeouts.join(' ')}`);
    }
    for (const place of places)
      this.#silence(place, place === 'h1' || place === 'h2' ? backend : 'nft');
  }

  /** The kernel answers none of the packets itself: it would end their connections. */
  #silence(place: Place, backend: Backend): void {
    const inside = `ip netns exec ${this.#namespace}-${place}`;
    sh(`${inside} sysctl -qw net.ipv4.icmp_echo_ignore_all=1 net.ipv6.icmp.echo_ignore_all=1
        for tool in iptables-${backend} ip6tables-${backend}; do
          ${inside} $tool -t raw -A OUTPUT -p tcp --tcp-flags RST RST -j DROP
        done
        for type in 14 3/2 3/3; do
          ${inside} iptables-${backend} -t raw -A OUTPUT -p icmp --icmp-type $type -j DROP
        done
        for type in 1/4 4; do
          ${inside} ip6tables-${backend} -t raw -A OUTPUT -p icmpv6 --icmpv6-type $type -j DROP
        done`);
  }
}

function sh(script: string): void {
  execFileSync('sh', ['-ec', script]);
}
