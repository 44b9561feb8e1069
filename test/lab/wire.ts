import { startEtcd, type Etcd } from './etcd.ts';
import { engineRoot } from './engine.ts';
import { startMachine, type Machine } from './machine.ts';
import { outputOf } from './process.ts';
import { words } from './words.ts';

const path = '/usr/sbin:/usr/bin:/sbin:/bin';
/** The port of the wire's etcd. */
const etcdPort = 2379;
const bridgeAddress = '203.0.113.1';
/** The name server of the machines: Docker looks up registries of images and must fail immediately. */
const nameServer = '192.0.2.53';

/**
 * One Ethernet that several machines share: a bridge in its own machine, with an etcd that all of them reach. Addresses
 * are for documentation and are not routed elsewhere.
 */
export async function startWire(): Promise<Wire> {
  const middle = await startMachine({
    root: await engineRoot('20.10'),
    backend: 'nft',
    uplink: false,
  });
  try {
    await middle.run([
      'sh',
      '-ec',
      `ip link add wire type bridge
       ip address add ${bridgeAddress}/24 dev wire
       ip link set wire up`,
    ]);
    const etcd = await startEtcd({
      enter: middle.enterNetwork,
      address: bridgeAddress,
      port: etcdPort,
    });
    return new Wire(middle, etcd);
  } catch (error) {
    await middle[Symbol.asyncDispose]();
    throw error;
  }
}

/** The bridge with its etcd, and the machines connected to it. */
export class Wire implements AsyncDisposable {
  readonly etcd: Etcd;
  readonly #middle: Machine;
  #connected = 0;

  constructor(middle: Machine, etcd: Etcd) {
    this.#middle = middle;
    this.etcd = etcd;
  }

  /** Gives a machine an interface on the wire with its default route; returns its address. */
  async connect(machine: Machine): Promise<string> {
    const number = ++this.#connected;
    const address = `203.0.113.${10 + number}`;
    await outputOf(
      words`ip link add name uplink netns ${String(machine.pid)} type veth
        peer name port${String(number)} netns ${String(this.#middle.pid)}`,
      { env: { PATH: path } },
    );
    await this.#middle.run([
      'sh',
      '-ec',
      `ip link set port${number} master wire; ip link set port${number} up`,
    ]);
    await machine.run([
      'sh',
      '-ec',
      `ip address add ${address}/24 dev uplink
       ip link set uplink up
       ip route add default via ${bridgeAddress}
       ip route add unreachable ${nameServer}`,
    ]);
    return address;
  }

  /** To be disposed of after the machines. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.etcd[Symbol.asyncDispose]();
    await this.#middle[Symbol.asyncDispose]();
  }
}
