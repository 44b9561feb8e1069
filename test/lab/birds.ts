import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { configText } from '../../src/bird/config-text.ts';
import { askBird } from '../../src/bird/control.ts';
import { protocolStates, type ProtocolState } from '../../src/bird/protocol-states.ts';
import type { IpFamily } from '../../src/ip/address.ts';
import { inputsOf, type Case } from '../../src/routing/bgp/bgp-cases.fixture.ts';
import { bgpModel } from '../../src/routing/bgp/bgp-model.ts';
import type { Node } from '../../src/model/kinds/node.ts';
import { underlayOf } from '../../src/routing/peers.ts';
import { routingRoot } from './engine.ts';
import { startMachine, type Machine } from './machine.ts';
import { eventually } from './poll.ts';

/** A node of a lab of BIRDs: the program with the configuration of a node, and nothing else of a host. */
export interface BirdNode {
  readonly name: string;
  /** Starts its BIRD. */
  start(): Promise<void>;
  /** Returns the sessions. */
  states(signal: AbortSignal): Promise<readonly ProtocolState[]>;
  /** Returns the destinations of routes of BIRD in its kernel, through another node. */
  routes(family: IpFamily): Promise<readonly string[]>;
}

/** Starts a machine with BIRD 2, FRR and GoBGP, and without calico-cnm. */
export async function startRoutingMachine(): Promise<Machine> {
  const root = await routingRoot();
  return startMachine({ root, backend: 'nft', uplink: false, bare: true });
}

/**
 * Stops the BIRD with the control socket `BASE.ctl` and the process id in `BASE.pid`. It answers before it ends, and
 * until it has ended another one does not start in its place.
 */
export async function stopBird(machine: Machine, base: string): Promise<void> {
  const pid = (await machine.run(['cat', `${base}.pid`])).trim();
  await machine.run(['birdc', '-s', `${base}.ctl`, 'down']);
  // A process that has ended and is not waited for has no program any more.
  const program = ['readlink', '-e', `/proc/${pid}/exe`];
  const isRunning = async () => (await machine.exec(program)).status === 0;
  assert.ok(await eventually(async () => !(await isRunning())), `BIRD ${base} has not ended`);
}

const mac = (n: number) => `02:00:00:00:${Math.floor(n / 256)}:${(n % 256).toString(16)}`;

/**
 * Creates a network namespace for each node, on one segment, with permanent neighbours, and writes the configuration of
 * its BIRD, derived from the resources. Nothing is started.
 */
export async function makeBirds(
  machine: Machine,
  resources: Case & { readonly nodes: readonly Node[] },
): Promise<readonly BirdNode[]> {
  const { nodes } = resources;
  await machine.run(['sh', '-e'], {
    input: 'ip link add name switch type bridge\nip link set switch up\n',
  });
  const places = nodes.map(({ metadata, spec: { bgp } }, index) => ({
    name: metadata.name,
    mac: mac(index + 1),
    addresses: [bgp?.ipv4Address, bgp?.ipv6Address].filter((one) => one !== undefined),
  }));
  const made: BirdNode[] = [];
  for (const { name, mac: own, addresses } of places) {
    const connected = ([4, 6] as const).flatMap((family) =>
      addresses.flatMap((one) => underlayOf(one, family)?.subnet ?? []),
    );
    const text = configText(bgpModel({ ...inputsOf({ ...resources, node: name }), connected }), {
      logFile: `/tmp/${name}.log`,
      foreignProtocols: [80, 81, 82],
      families: [4, 6],
      programsKernel: true,
    });
    writeFileSync(machine.path(`/tmp/${name}.conf`), text);
    const neighbours = places
      .filter((other) => other.name !== name)
      .flatMap((other) =>
        other.addresses.map(
          (one) =>
            `neigh add ${one.split('/', 1)[0] ?? ''} lladdr ${other.mac} nud permanent dev eth0`,
        ),
      );
    const setUp = [
      `ip netns add ${name}`,
      `ip link add v-${name} type veth peer name eth0 address ${own} netns ${name}`,
      `ip link set v-${name} master switch up`,
      ...addresses.map((one) => `ip -n ${name} addr add ${one} dev eth0 nodad`),
      `ip -n ${name} link set eth0 up`,
      `ip -n ${name} -batch - <<END`,
      ...neighbours,
      'END',
    ];
    await machine.run(['sh', '-e'], { input: setUp.join('\n') });
    made.push(birdNode(machine, name));
  }
  return made;
}

function birdNode(machine: Machine, name: string): BirdNode {
  const files = ['-c', `/tmp/${name}.conf`, '-s', `/tmp/${name}.ctl`, '-P', `/tmp/${name}.pid`];
  return {
    name,
    start: async () => {
      await machine.run(['ip', 'netns', 'exec', name, 'bird', ...files]);
    },
    states: async (signal) =>
      protocolStates(await askBird(machine.path(`/tmp/${name}.ctl`), 'show protocols all', signal)),
    routes: async (family) => {
      const argv = ['ip', '-n', name, `-${family}`, 'route', 'show', 'proto', 'bird'];
      const shown = await machine.run(argv);
      return [...shown.matchAll(/^(\S+) via /gm)].map(([, net = '']) => net);
    },
  };
}
