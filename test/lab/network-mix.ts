import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { EngineApi } from './engine-api.ts';
import type { NetworkLab } from './network-lab.ts';
import { words } from './words.ts';

/** The kinds of network that a container may be on, with their arguments of `docker network create`. */
const kinds = {
  plain: () => words`-d calico --ipam-driver calico-ipam`,
  gateway: (n: string) =>
    words`-d calico --ipam-driver calico-ipam --subnet 10.${n}.0.0/24 --gateway 10.${n}.0.1`,
  dual: (n: string) =>
    words`-d calico --ipam-driver calico-ipam --ipv6 --subnet 10.${n}.0.0/24 --gateway 10.${n}.0.1
      --subnet fd00:${n}::/64 --gateway fd00:${n}::1`,
  docker: () => words`-d calico`,
  dockerDual: (n: string) =>
    words`-d calico --ipv6 --subnet 10.${n}.0.0/24 --gateway 10.${n}.0.1 --subnet fd00:${n}::/64`,
  internal: () => words`-d calico --ipam-driver calico-ipam --internal`,
  bridge: () => words`-d bridge`,
} as const;

export type MixedKind = keyof typeof kinds;
export const mixedKinds: readonly MixedKind[] = [
  'plain',
  'gateway',
  'dual',
  'docker',
  'dockerDual',
  'internal',
  'bridge',
];

/** The steps of a container's life. */
type Step = 'create' | 'run' | 'connect' | 'disconnect' | 'restart' | 'die';

/** A step after which a check failed. */
export interface MixFailure {
  readonly step: Step;
  /** The networks of the container at that time, in the order in which it was connected. */
  readonly networks: readonly string[];
  readonly why: string;
}

export interface MixResult {
  readonly steps: number;
  readonly failures: readonly MixFailure[];
  /** The number of steps and failures by the pair of kinds that a container started with. */
  readonly pairs: ReadonlyMap<string, { steps: number; failures: number }>;
}

interface Peer {
  readonly pid: number;
  readonly addresses: readonly string[];
}

const inspected = z.object({
  State: z.object({ Running: z.boolean(), Pid: z.number(), StartedAt: z.string() }),
  NetworkSettings: z.object({
    Networks: z.record(
      z.string(),
      z.object({ IPAddress: z.string(), GlobalIPv6Address: z.string() }),
    ),
  }),
});

const serve = 'httpd -p 8080 -h /www; rm -f /tmp/die; while [ ! -e /tmp/die ]; do sleep 0.05; done';

/**
 * Containers on two to five networks of all kinds, which are started, connected, disconnected, restarted and die, with
 * pauses of random length. After each step the container must run, have a default route if one of its networks
 * gives it one, reach the peer on each of its networks, and be reached by it. What is done is decided by the seed.
 */
export class NetworkMix {
  readonly #lab: NetworkLab;
  readonly #docker: EngineApi;
  readonly #random: () => number;
  readonly #isOwn: (pair: number) => boolean;
  readonly #peers = new Map<string, Peer>();
  readonly #networks: readonly string[];
  readonly #failures: MixFailure[] = [];
  readonly #pairs = new Map<string, { steps: number; failures: number }>();
  readonly #lives: (readonly [MixedKind, MixedKind])[] = [];
  #steps = 0;
  #names = 0;

  /** `isOwn`: whether containers start with a pair of kinds, by its number in the order of the seed. */
  constructor(
    lab: NetworkLab,
    { seed, isOwn }: { readonly seed: number; readonly isOwn: (pair: number) => boolean },
  ) {
    this.#lab = lab;
    this.#isOwn = isOwn;
    this.#docker = new EngineApi(lab.host.path('/run/docker.sock'));
    this.#random = randomFrom(seed);
    // One of each kind that sorts first and one that sorts last, because Docker chooses the default route by name.
    this.#networks = mixedKinds.flatMap((kind) => [`a-${kind}`, `z-${kind}`]);
  }

  /** Creates the networks and a peer on each. */
  async start(): Promise<void> {
    for (const [index, network] of this.#networks.entries()) {
      await this.#lab.docker(
        'network',
        'create',
        ...kinds[kindOf(network)](String(100 + index)),
        network,
      );
    }
    for (const network of this.#networks) {
      await this.#lab.server(`peer-${network}`, '--net', network);
      const { pid, addresses } = await this.#look(`peer-${network}`);
      this.#peers.set(network, { pid, addresses: addresses.get(network) ?? [] });
    }
  }

  /** Goes through lives until that many steps were made, some at once. */
  async run(steps: number, atOnce = 3): Promise<MixResult> {
    const worker = async () => {
      while (this.#steps < steps) await this.#live();
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
    return { steps: this.#steps, failures: this.#failures, pairs: this.#pairs };
  }

  async #live(): Promise<void> {
    const pair = this.#nextPair();
    const name = `mix${++this.#names}`;
    const [a, b] = pair;
    const order = this.#shuffled(['a', 'z']);
    const first = `${order[0]}-${a}`;
    const second = `${a === b ? order[1] : this.#pick(['a', 'z'])}-${b}`;
    const rest = this.#shuffled(this.#networks.filter((one) => one !== first && one !== second));
    const more = rest.slice(0, this.#pick([0, 0, 0, 1, 2, 3]));
    const tally = this.#pairs.get(pair.join('+')) ?? { steps: 0, failures: 0 };
    this.#pairs.set(pair.join('+'), tally);
    let on: readonly string[] = [];
    const did = async (step: Step, networks: readonly string[], act: () => Promise<unknown>) => {
      on = networks;
      tally.steps++;
      this.#steps++;
      try {
        await act();
        await this.#check(name, on);
      } catch (error) {
        tally.failures++;
        const why = error instanceof Error ? error.message : String(error);
        this.#failures.push({ step, networks: on, why: why.trim() });
        throw error;
      }
      await sleep(this.#pick([0, 0, 5, 30, 100, 300]));
    };
    try {
      await this.#begin(name, [first, second, ...more], did);
      for (let index = this.#pick([1, 2, 3]); index > 0; index--) await this.#next(name, on, did);
    } catch {
      // Recorded; continue with the next container.
    } finally {
      await this.#docker.call('DELETE', `/containers/${name}?force=1`).catch(() => undefined);
    }
  }

  /** All networks at once before the start, or one after the other while it runs. */
  async #begin(name: string, networks: readonly string[], did: Did): Promise<void> {
    const [first = '', ...others] = networks;
    const create = () =>
      this.#docker.call('POST', `/containers/create?name=${name}`, {
        Image: 'calico-test',
        Cmd: ['sh', '-c', serve],
        HostConfig: { NetworkMode: first, RestartPolicy: { Name: 'always' } },
      });
    const start = () => this.#docker.call('POST', `/containers/${name}/start`);
    if (this.#random() < 0.5) {
      await did('create', networks, async () => {
        await create();
        for (const one of others) await this.#connect(name, one);
        await start();
      });
      return;
    }
    await did('run', [first], async () => {
      await create();
      await start();
    });
    for (const [index, one] of others.entries()) {
      await did('connect', networks.slice(0, index + 2), () => this.#connect(name, one));
    }
  }

  async #connect(name: string, network: string): Promise<void> {
    await this.#docker.call('POST', `/networks/${network}/connect`, { Container: name });
  }

  async #next(name: string, on: readonly string[], did: Did): Promise<void> {
    const step = this.#pick(['connect', 'disconnect', 'disconnect', 'restart', 'die'] as const);
    if (step === 'connect' && on.length < 5) {
      const one = this.#pick(this.#networks.filter((other) => !on.includes(other)));
      return did(step, [...on, one], () => this.#connect(name, one));
    }
    if (step === 'disconnect' && on.length > 1) {
      const one = this.#pick(on);
      const left = on.filter((other) => other !== one);
      return did(step, left, () =>
        this.#docker.call('POST', `/networks/${one}/disconnect`, { Container: name }),
      );
    }
    if (step === 'die') {
      return did(step, on, async () => {
        const { startedAt, pid } = await this.#look(name);
        await writeFile(this.#lab.host.path(`/proc/${pid}/root/tmp/die`), '');
        const isBack = async () => (await this.#look(name)).startedAt !== startedAt;
        if (!(await this.#lab.eventually(isBack))) throw new Error('it did not start again');
      });
    }
    return did('restart', on, () => this.#docker.call('POST', `/containers/${name}/restart?t=0`));
  }

  async #check(name: string, networks: readonly string[]): Promise<void> {
    let problem = '';
    const isWell = async () => {
      problem = await this.#problem(name, networks);
      return problem === '';
    };
    if (await this.#lab.eventually(isWell)) return;
    const { pid } = await this.#look(name);
    const show =
      'ip rule; ip route show table all; ip -6 rule; ip -6 route show table all; ip -br a';
    const { stdout } = await this.#lab.host.exec([
      'nsenter',
      '-t',
      String(pid),
      '-n',
      'sh',
      '-c',
      show,
    ]);
    throw new Error(`${problem}\n${stdout}`);
  }

  /** Returns the failed checks; empty if all succeed. */
  async #problem(name: string, networks: readonly string[]): Promise<string> {
    const { isRunning, pid, addresses } = await this.#look(name);
    if (!isRunning) return 'it does not run';
    const connect = (from: number, to: readonly string[], problem: string) => `
      nsenter -t ${from} -n timeout 2 bash -c 'for to in ${to.join(' ')}; do
        (exec 3<>/dev/tcp/$to/8080) 2>/dev/null && echo $to & done; wait' |
        sort | comm -13 - <(printf '%s\n' ${to.toSorted().join(' ')}) | sed 's/^/${problem} /' &`;
    const peers = networks.flatMap((network) => this.#peers.get(network)?.addresses ?? []);
    const probes = [
      connect(pid, peers, 'it does not reach'),
      ...networks.map((network) =>
        connect(
          this.#peers.get(network)?.pid ?? 0,
          addresses.get(network) ?? [],
          `${network} does not reach it at`,
        ),
      ),
    ];
    const hasDefault = networks.some((network) => kindOf(network) !== 'internal');
    const script = `${probes.join('')}
      ${hasDefault ? `nsenter -t ${pid} -n ip route show default | grep -q . || echo no default route` : ''}
      wait`;
    const { stdout } = await this.#lab.host.exec(['bash', '-c', script]);
    return stdout.trim();
  }

  async #look(name: string) {
    const { State, NetworkSettings } = inspected.parse(
      await this.#docker.call('GET', `/containers/${name}/json`),
    );
    const addresses = Object.entries(NetworkSettings.Networks).map(
      ([network, { IPAddress, GlobalIPv6Address }]) =>
        [network, [IPAddress, GlobalIPv6Address].filter((address) => address !== '')] as const,
    );
    return {
      isRunning: State.Running,
      pid: State.Pid,
      startedAt: State.StartedAt,
      addresses: new Map<string, readonly string[]>(addresses),
    };
  }

  #nextPair(): readonly [MixedKind, MixedKind] {
    if (this.#lives.length === 0) {
      const all = mixedKinds.flatMap((a) => mixedKinds.map((b) => [a, b] as const));
      this.#lives.push(...this.#shuffled(all).filter((_, pair) => this.#isOwn(pair)));
    }
    return this.#lives.pop() ?? ['plain', 'plain'];
  }

  #pick<T>(from: readonly T[]): T {
    const picked = from[Math.floor(this.#random() * from.length)];
    if (picked === undefined) throw new Error('nothing to pick from');
    return picked;
  }

  #shuffled<T>(from: readonly T[]): readonly T[] {
    return from
      .map((value) => ({ value, at: this.#random() }))
      .toSorted((a, b) => a.at - b.at)
      .map(({ value }) => value);
  }
}

type Did = (step: Step, networks: readonly string[], act: () => Promise<unknown>) => Promise<void>;

function kindOf(network: string): MixedKind {
  const kind = mixedKinds.find((one) => network.endsWith(`-${one}`));
  if (kind === undefined) throw new Error(`no kind of network: ${network}`);
  return kind;
}

/** Pseudo-random numbers from 0 to 1 by a seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
