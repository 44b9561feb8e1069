import assert from 'node:assert/strict';
import type { Engine } from './engine.ts';
import { startEtcd, type Etcd } from './etcd.ts';
import { coreAddress, oneSegment, placesIn, startFabric, type Fabric } from './cluster/fabric.ts';
import { startHost, type Host } from './host.ts';
import { ManagedPluginLab } from './managed-plugin.ts';
import { words } from './words.ts';

/** A host of a swarm. */
export interface SwarmHost {
  readonly lab: ManagedPluginLab;
  readonly host: Host;
  /** Its host name, which is its name in the swarm as well. */
  readonly name: string;
  readonly address: string;
}

/** A task, as in `docker service ps`. */
export interface TaskState {
  readonly name: string;
  readonly node: string;
  readonly state: string;
  readonly error: string;
}

/** Hosts with the managed plugin, on one Ethernet with one etcd. The first one makes the swarm. */
export class SwarmLab implements AsyncDisposable {
  readonly hosts: readonly SwarmHost[];
  readonly etcd: Etcd;
  readonly #fabric: Fabric;
  /** The manager that handles commands for the swarm. */
  asked: SwarmHost;

  constructor(fabric: Fabric, etcd: Etcd, hosts: readonly [SwarmHost, ...SwarmHost[]]) {
    this.#fabric = fabric;
    this.etcd = etcd;
    this.hosts = hosts;
    [this.asked] = hosts;
  }

  /** Runs docker on the host of `asked`. */
  docker(...argv: readonly string[]): Promise<string> {
    return this.asked.lab.docker(...argv);
  }

  /** Creates the swarm with a number of managers; the other hosts are workers. */
  async form(managers: number): Promise<void> {
    await this.docker(...words`swarm init --advertise-addr ${this.asked.address}`);
    const tokens = {
      manager: await this.docker('swarm', 'join-token', '-q', 'manager'),
      worker: await this.docker('swarm', 'join-token', '-q', 'worker'),
    };
    for (const [index, { lab }] of this.hosts.entries()) {
      if (index === 0) continue;
      const token = index < managers ? tokens.manager : tokens.worker;
      await lab.docker(...words`swarm join --token ${token} ${this.asked.address}:2377`);
    }
  }

  /** Creates a service whose tasks serve `hello` on port 8080. */
  async service(name: string, ...options: readonly string[]): Promise<void> {
    await this.docker(
      ...words`service create -d --no-resolve-image --stop-grace-period 1s --restart-delay 0s
        --name ${name} ${options} calico-test httpd -f -p 8080 -h /www`,
    );
  }

  /** The tasks that a service is to have now. */
  async tasks(service: string): Promise<readonly TaskState[]> {
    const format = '{{.Name}}|{{.Node}}|{{.CurrentState}}|{{.Error}}';
    const shown = await this.docker(
      ...words`service ps --no-trunc -f desired-state=running --format ${format} ${service}`,
    );
    return shown
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const [name = '', node = '', state = '', error = ''] = line.split('|');
        return { name, node, state: state.split(' ')[0] ?? '', error };
      });
  }

  /** Waits until so many tasks of a service run, and no other is to run. */
  async runs(service: string, count: number, patienceMs = 120_000): Promise<readonly TaskState[]> {
    let tasks: readonly TaskState[] = [];
    const areRunning = await this.asked.lab.eventually(async () => {
      tasks = await this.tasks(service);
      return tasks.length === count && tasks.every(({ state }) => state === 'Running');
    }, patienceMs);
    const why = `${JSON.stringify(tasks)}\n${this.asked.host.dockerLog().slice(-4000)}`;
    assert.ok(areRunning, `${count} tasks of ${service} run: ${why}`);
    return tasks;
  }

  /** The containers of a service on a host. */
  async containers({ lab }: SwarmHost, service: string): Promise<readonly string[]> {
    const filter = `label=com.docker.swarm.service.name=${service}`;
    const shown = await lab.docker(...words`ps --filter ${filter} --format {{.Names}}`);
    return shown.split('\n').filter((name) => name !== '');
  }

  /** The addresses of the running containers of a service, by host. */
  async addresses(service: string, network: string): Promise<ReadonlyMap<SwarmHost, string[]>> {
    const found = new Map<SwarmHost, string[]>();
    for (const host of this.hosts) {
      const addresses: string[] = [];
      for (const container of await this.containers(host, service)) {
        addresses.push(await host.lab.address(container, network));
      }
      found.set(host, addresses);
    }
    return found;
  }

  /** Returns the number of allocated addresses in the datastore, in all pools. */
  async allocatedAddresses(): Promise<number> {
    const shown = await this.asked.lab.calico('ipam', 'show');
    const lines = shown.split('\n').filter((line) => line.startsWith('IP pool'));
    return lines.reduce(
      (sum, line) =>
        sum +
        Number(
          line
            .trim()
            .split(/\s{2,}/)
            .at(-3),
        ),
      0,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.hosts.map(({ lab }) => lab[Symbol.asyncDispose]()));
    await this.etcd[Symbol.asyncDispose]();
    await this.#fabric[Symbol.asyncDispose]();
  }
}

/** Starts hosts with Docker on one segment, without plugin and swarm. */
export async function startSwarmLab(options: {
  readonly engine: Engine;
  readonly hosts: number;
}): Promise<SwarmLab> {
  await using made = new AsyncDisposableStack();
  const topology = oneSegment(options.hosts);
  const fabric = made.use(await startFabric(topology, 1));
  const etcd = made.use(
    await startEtcd({
      enter: fabric.machine.enterNetwork,
      address: coreAddress(1),
      port: 2379,
    }),
  );
  const started = placesIn(topology).map(async (place, index) => {
    const host = made.use(await startHost({ engine: options.engine }));
    await fabric.connect([{ name: `host-${index + 1}`, place, host, connected: () => undefined }]);
    await host.run(['mount', '--make-rshared', '/']);
    await host.startDocker();
    const { name } = host.machine;
    return { lab: new ManagedPluginLab(host), host, name, address: place.address };
  });
  await Promise.allSettled(started);
  const [first, ...others] = await Promise.all(started);
  assert.ok(first);
  made.move();
  return new SwarmLab(fabric, etcd, [first, ...others]);
}
