import { Cable } from './cable.ts';
import { engineRoot, routingRoot } from '../engine.ts';
import type { Host } from '../host.ts';
import { startMachine, type Machine } from '../machine.ts';
import { outputOf } from '../process.ts';

/** One Ethernet with an IPv4 and an IPv6 subnet, the number of its hosts, and its router. */
export interface Segment {
  readonly hosts: number;
  /** Segments with the same router are connected by it; routers are connected with each other. */
  readonly router: string;
  /** The router of a second uplink: each host has an interface `eth1` too, in another Ethernet with its own subnets. */
  readonly secondRouter?: string;
}

/** The network between the hosts. Routers know the subnets of all segments, and no route to a container. */
export type Topology = readonly Segment[];

/** All hosts in one subnet, reachable without a router. */
export function oneSegment(hosts: number): Topology {
  return [{ hosts, router: 'router' }];
}

/** Two subnets with one router between them. */
export function twoSubnets(first: number, second: number): Topology {
  return [first, second].map((hosts) => ({ hosts, router: 'router' }));
}

/** Two racks, each a subnet with its own router; the routers are connected. */
export function twoRacks(first: number, second: number): Topology {
  return [
    { hosts: first, router: 'router-1' },
    { hosts: second, router: 'router-2' },
  ];
}

/** Two racks with two switches each; a host has an uplink to each switch of its rack. */
export function dualRacks(first: number, second: number): Topology {
  return [
    { hosts: first, router: 'rack-1a', secondRouter: 'rack-1b' },
    { hosts: second, router: 'rack-2a', secondRouter: 'rack-2b' },
  ];
}

/** The name server of the machines (machine.sh): a lookup must fail immediately, without a router's time limit. */
const nameServer = '192.0.2.53';

/** Addresses for documentation and benchmarks; none is routed elsewhere. */
const subnet = (segment: number, isSecond = false) => ({
  v4: `198.${isSecond ? 19 : 18}.${segment + 1}.`,
  v6: `2001:db8:${isSecond ? 19 : 18}:${segment + 1}::`,
});
const core = { v4: '192.0.2.', v6: '2001:db8:2::' } as const;
const firstHost = 11;
const firstRouter = 101;

/** The addresses of a host on its segment. */
export interface Place {
  readonly segment: number;
  readonly address: string;
  readonly address6: string;
  /** The addresses of its second uplink. */
  readonly second?: { readonly address: string; readonly address6: string };
}

/** Returns the place of every host, in the order of the segments. */
export function placesIn(topology: Topology): readonly Place[] {
  return topology.flatMap(({ hosts, secondRouter }, segment) =>
    Array.from({ length: hosts }, (_, index) => {
      const on = (isSecond: boolean) => ({
        address: `${subnet(segment, isSecond).v4}${firstHost + index}`,
        address6: `${subnet(segment, isSecond).v6}${firstHost + index}`,
      });
      const second = secondRouter === undefined ? {} : { second: on(true) };
      return { segment, ...on(false), ...second };
    }),
  );
}

/** Returns the address of a machine on the core, to which all routers are connected; numbers from 1 to 50. */
export function coreAddress(number: number): string {
  return `${core.v4}${number}`;
}

/** A host to be connected; its name is that of its port on the switch. */
export interface Connectable {
  readonly name: string;
  readonly place: Place;
  readonly host: Host;
  /** Called with its cable. */
  readonly connected: (cable: Cable) => void;
}

/**
 * Starts the switches and routers of a topology: a machine in whose network each segment is a bridge, and each router a
 * namespace. On the core bridge it has the addresses `coreAddress(1)` to `coreAddress(coreAddresses)`.
 */
export async function startFabric(
  topology: Topology,
  coreAddresses: number,
  routers = false,
): Promise<Fabric> {
  const root = routers ? await routingRoot() : await engineRoot('20.10');
  const machine = await startMachine({ root, backend: 'nft', uplink: false });
  try {
    await machine.run(['sh', '-e'], { input: fabricScript(topology, coreAddresses) });
    return new Fabric(machine, topology);
  } catch (error) {
    await machine[Symbol.asyncDispose]();
    throw error;
  }
}

/** The network between hosts. Hosts and whatever runs in its network must be disposed of before it. */
export class Fabric implements AsyncDisposable {
  readonly machine: Machine;
  readonly #topology: Topology;
  readonly #cables = new Map<string, Cable>();

  constructor(machine: Machine, topology: Topology) {
    this.machine = machine;
    this.#topology = topology;
  }

  /**
   * Connects hosts: each gets an interface `eth0` with the addresses of its place, and a default route to the router
   * of its segment. A host that comes back gets a new cable, without faults.
   */
  async connect(hosts: readonly Connectable[]): Promise<void> {
    for (const { name, place } of hosts) {
      const former = this.#cables.get(name);
      await former?.[Symbol.asyncDispose]();
      if (former === undefined) continue;
      // The kernel removes the network of a host that was switched off some time later, and with it this end.
      const input = uplinksOf(place)
        .map(({ port }) => `link del ${port(name)}\n`)
        .join('');
      await this.machine.exec(['ip', '-force', '-batch', '-'], { input });
    }
    const { pid } = this.machine;
    const veths = hosts.flatMap(({ host, name, place }) =>
      uplinksOf(place).map(
        ({ address, port, link }) =>
          `link add name ${link} address ${macOf(address)} netns ${host.machine.pid} type veth peer name ${port(name)} netns ${pid}`,
      ),
    );
    await outputOf(['ip', '-batch', '-'], { input: `${veths.join('\n')}\n`, env: { PATH: path } });
    const ports = hosts.flatMap(({ name, place }) =>
      uplinksOf(place).flatMap(({ port, bridge }) => [
        `link set ${port(name)} master ${bridge}`,
        `link set ${port(name)} up`,
      ]),
    );
    await Promise.all([
      this.machine.run(['ip', '-batch', '-'], { input: `${ports.join('\n')}\n` }),
      ...hosts.map(({ host, place }) =>
        host.run(['ip', '-batch', '-'], { input: uplinkBatch(place) }),
      ),
    ]);
    for (const { connected, name, place } of hosts) {
      const cable = new Cable(this.machine, { end: name, bridge: `segment-${place.segment}` });
      this.#cables.set(name, cable);
      connected(cable);
    }
  }

  /** Returns the names of the routers, which are network namespaces of the machine. */
  get routers(): readonly string[] {
    return routersOf(this.#topology);
  }

  /**
   * Turns a router off or on as its power does: nothing passes it, nor the switches of its segments. Hosts keep their
   * carrier. What runs in its namespace is not concerned.
   */
  async power(router: string, isOn: boolean): Promise<void> {
    const state = isOn ? 'up' : 'down';
    const links = [router, ...ethernetsOf(this.#topology).filter((one) => one.router === router)];
    const lines = links.map(
      (link) => `link set ${typeof link === 'string' ? link : link.bridge} ${state}`,
    );
    await this.machine.run(['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#cables.values().map((cable) => cable[Symbol.asyncDispose]()));
    await this.machine[Symbol.asyncDispose]();
  }
}

const path = '/usr/sbin:/usr/bin:/sbin:/bin';

function routersOf(topology: Topology): readonly string[] {
  return [...new Set(ethernetsOf(topology).map(({ router }) => router))];
}

interface Ethernet {
  readonly router: string;
  readonly bridge: string;
  /** The port of its router. */
  readonly gateway: string;
  readonly v4: string;
  readonly v6: string;
}

function ethernetsOf(topology: Topology): readonly Ethernet[] {
  return topology.flatMap(({ router, secondRouter }, segment) => [
    { router, bridge: `segment-${segment}`, gateway: `gateway-${segment}`, ...subnet(segment) },
    ...(secondRouter === undefined
      ? []
      : [
          {
            router: secondRouter,
            bridge: `segment-${segment}b`,
            gateway: `gateway-${segment}b`,
            ...subnet(segment, true),
          },
        ]),
  ]);
}

interface Uplink {
  readonly link: string;
  readonly bridge: string;
  readonly address: string;
  readonly address6: string;
  readonly router: { readonly v4: string; readonly v6: string };
  /** Its other end, by the name of the host. */
  readonly port: (host: string) => string;
}

function uplinksOf({ segment, address, address6, second }: Place): readonly Uplink[] {
  const router = (isSecond: boolean) => {
    const { v4, v6 } = subnet(segment, isSecond);
    return { v4: `${v4}1`, v6: `${v6}1` };
  };
  const on = { link: 'eth0', bridge: `segment-${segment}`, address, address6 };
  return [
    { ...on, router: router(false), port: (host) => host },
    ...(second === undefined
      ? []
      : [
          {
            link: 'eth1',
            bridge: `segment-${segment}b`,
            ...second,
            router: router(true),
            port: (host: string) => `${host}-b`,
          },
        ]),
  ];
}

/** A host keeps its network card, and with it the MAC address, when it is switched off and on. */
function macOf(address: string): string {
  const bytes = address.split('.').map((byte) => Number(byte).toString(16).padStart(2, '0'));
  return ['02:00', ...bytes].join(':');
}

/** With two uplinks the default route is by both, and one of BGP (metric 1024) has precedence. */
function uplinkBatch(place: Place): string {
  const uplinks = uplinksOf(place);
  const hops = (family: 'v4' | 'v6') =>
    uplinks.length === 1
      ? uplinks.map(({ router }) => `via ${router[family]}`).join('')
      : `metric 4096 ${uplinks.map(({ router }) => `nexthop via ${router[family]}`).join(' ')}`;
  return `
    ${uplinks
      .flatMap(({ link, address, address6 }) => [
        `address add ${address}/24 dev ${link}`,
        `address add ${address6}/64 dev ${link} nodad`,
        `link set ${link} up`,
      ])
      .join('\n    ')}
    route add default ${hops('v4')}
    route add ::/0 ${hops('v6')}
    route add unreachable ${nameServer}
  `;
}

function fabricScript(topology: Topology, coreAddresses: number): string {
  const routers = routersOf(topology);
  const routerCore = (router: string) => firstRouter + routers.indexOf(router);
  const bridge = (name: string) => `
    link add ${name} type bridge
    link set ${name} up`;
  const leg = (router: string, bridgeName: string, port: string) => `
    link add ${port} type veth peer name ${bridgeName} netns ${router}
    link set ${port} master ${bridgeName}
    link set ${port} up`;
  const switches = [
    bridge('core'),
    ...Array.from(
      { length: coreAddresses },
      (_, index) => `
    address add ${core.v4}${index + 1}/24 dev core
    address add ${core.v6}${index + 1}/64 dev core nodad`,
    ),
    ...routers.map((router) => leg(router, 'core', router)),
    ...ethernetsOf(topology).map(
      ({ router, bridge: name, gateway }) => bridge(name) + leg(router, name, gateway),
    ),
    ...ethernetsOf(topology).map(
      ({ router, v4, v6 }) => `
    route add ${v4}0/24 via ${core.v4}${routerCore(router)}
    route add ${v6}/64 via ${core.v6}${routerCore(router)}`,
    ),
  ];
  const routerBatch = (router: string) =>
    [
      `
    link set lo up
    address add ${core.v4}${routerCore(router)}/24 dev core
    address add ${core.v6}${routerCore(router)}/64 dev core nodad
    link set core up`,
      ...ethernetsOf(topology).map(({ router: own, bridge: link, v4, v6 }) =>
        own === router
          ? `
    address add ${v4}1/24 dev ${link}
    address add ${v6}1/64 dev ${link} nodad
    link set ${link} up`
          : `
    route add ${v4}0/24 via ${core.v4}${routerCore(own)}
    route add ${v6}/64 via ${core.v6}${routerCore(own)}`,
      ),
    ].join('');
  return [
    ...routers.map((router) => `ip netns add ${router}`),
    `ip -batch - <<'EOF'${switches.join('')}\nEOF`,
    ...routers.flatMap((router) => [
      `nsenter --net=/run/netns/${router} sh -e <<'ROUTER'
for family in ipv4 ipv6; do echo 1 >/proc/sys/net/$family/conf/all/forwarding; done
ip -batch - <<'EOF'${routerBatch(router)}
EOF
ROUTER`,
    ]),
  ].join('\n');
}
