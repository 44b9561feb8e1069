import assert from 'node:assert/strict';
import { fetchStatus } from '../../src/cli/control-client.ts';
import { startEtcd, type Etcd } from './etcd.ts';
import type { Engine } from './engine.ts';
import { startHost, type Host } from './host.ts';
import type { IptablesBackend } from './machine.ts';
import { callPlugin, getText, type PluginAnswer } from './plugin-client.ts';
import type { CommandResult } from './process.ts';
import { words } from './words.ts';
import { eventually } from './poll.ts';

/** The configuration of one run of a suite. */
export interface LabKind {
  readonly engine: Engine;
  readonly backend: IptablesBackend;
  readonly datastore: 'sqlite' | 'etcd';
  /** The environment of dockerd. */
  readonly dockerEnvironment?: Readonly<Record<string, string>>;
  /** As of a machine (machine.ts). */
  readonly writesPerSecond?: number;
  /**
   * Whether ufw, firewalld, the usual network managers and docker-compose 1.29 are installed; on the older engine only.
   */
  readonly furnished?: boolean;
}

/** Each engine with each firewall and each datastore at least once. */
export const labKinds: readonly LabKind[] = [
  { engine: '20.10', backend: 'nft', datastore: 'sqlite' },
  { engine: '20.10', backend: 'legacy', datastore: 'etcd' },
  { engine: '28.5', backend: 'nft', datastore: 'etcd' },
  { engine: '28.5', backend: 'legacy', datastore: 'sqlite' },
];

/** Each engine, firewall and datastore once: for suites whose subject is neither of them, in a short run. */
export const fewLabKinds: readonly LabKind[] = [
  { engine: '20.10', backend: 'legacy', datastore: 'etcd' },
  { engine: '28.5', backend: 'nft', datastore: 'sqlite' },
];

export function kindName({ engine, backend, datastore }: LabKind): string {
  return `Docker ${engine}, iptables-${backend}, ${datastore}`;
}

/** A host with Docker and calico-cnm, and the checks of the tests. */
export class NetworkLab implements AsyncDisposable {
  readonly host: Host;
  readonly etcd: Etcd | undefined;
  readonly environment: Readonly<Record<string, string>>;

  constructor(host: Host, etcd: Etcd | undefined, environment: Readonly<Record<string, string>>) {
    this.host = host;
    this.etcd = etcd;
    this.environment = environment;
  }

  /** Runs docker with the arguments; throws its output if it fails. */
  docker(...argv: readonly string[]): Promise<string> {
    return this.host.docker(...argv);
  }

  /** Returns the output of a docker command that must fail. */
  async refused(...argv: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.host.exec(['docker', ...argv]);
    assert.notEqual(status, 0, `docker ${argv.join(' ')} should have been refused`);
    return `${stdout}${stderr}`;
  }

  /** Runs calico-cnm with the arguments; throws its output if it fails. */
  calico(...argv: readonly string[]): Promise<string> {
    return this.host.run(['calico-cnm', ...argv], { env: this.environment });
  }

  calicoResult(...argv: readonly string[]): Promise<CommandResult> {
    return this.host.exec(['calico-cnm', ...argv], { env: this.environment });
  }

  /** A call on the plugin's socket as dockerd makes it; without a body an empty one. */
  call(method: string, body?: unknown): Promise<PluginAnswer> {
    return callPlugin(this.host.path('/run/docker/plugins/calico.sock'), method, body);
  }

  /** Returns the daemon's metrics in the Prometheus text format. */
  metrics(): Promise<string> {
    return getText(this.host.path('/run/calico/calico-cnm.sock'), '/metrics');
  }

  network(name: string, ...options: readonly string[]): Promise<string> {
    return this.docker(
      ...words`network create --driver calico --ipam-driver calico-ipam ${options} ${name}`,
    );
  }

  /** Starts a container that serves `hello` on port 8080; resolves when it does. */
  async server(name: string, ...options: readonly string[]): Promise<void> {
    await this.docker(
      ...words`run -d --name ${name} ${options} calico-test httpd -f -p 8080 -h /www`,
    );
    const pid = `$(docker inspect -f '{{.State.Pid}}' "$0")`;
    // A socket of that port (0x1F90) that listens (0A), whatever its address.
    const listens = `grep -q ':1F90 [0-9A-F]*:0000 0A' /proc/${pid}/net/tcp*`;
    const serves = async () => (await this.host.exec(['sh', '-c', listens, name])).status === 0;
    assert.ok(await this.eventually(serves), `${name} serves`);
  }

  /** Starts a container that only waits. */
  async client(name: string, ...options: readonly string[]): Promise<void> {
    await this.docker('run', '-d', '--name', name, ...options, 'calico-test');
  }

  /** Two networks, `web` with the server `app` and the client `inside`, `other` with the client `outside`. */
  async tour(...networkOptions: readonly string[]): Promise<void> {
    for (const name of ['web', 'other']) await this.network(name, ...networkOptions);
    await this.server('app', '--net', 'web');
    await this.client('inside', '--net', 'web');
    await this.client('outside', '--net', 'other');
  }

  /** Reports whether a container gets the page at an address or name. */
  async reaches(from: string, to: string): Promise<boolean> {
    const url = `http://${to.includes(':') ? `[${to}]` : to}:8080/`;
    const { stdout } = await this.host.exec(words`docker exec ${from} timeout 2 wget -qO- ${url}`);
    return stdout.trim() === 'hello';
  }

  /** Reports whether the host gets the page; uses only the shell because not every root has a client. */
  async hostReaches(to: string): Promise<boolean> {
    const ask = `exec 3<>/dev/tcp/${to}/8080; printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3; cat <&3`;
    const { stdout } = await this.host.exec(['timeout', '2', 'bash', '-c', ask]);
    return stdout.trim().endsWith('hello');
  }

  async pings(from: string, to: string): Promise<boolean> {
    const { status } = await this.host.exec(words`docker exec ${from} ping -c 1 -W 1 ${to}`);
    return status === 0;
  }

  /** Returns the address of a container on a network. */
  async address(container: string, network: string): Promise<string> {
    return this.docker(
      'inspect',
      '-f',
      `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`,
      container,
    );
  }

  async address6(container: string, network: string): Promise<string> {
    return this.docker(
      'inspect',
      '-f',
      `{{(index .NetworkSettings.Networks "${network}").GlobalIPv6Address}}`,
      container,
    );
  }

  /** Returns the data of `calico-cnm status`. */
  status(): ReturnType<typeof fetchStatus> {
    return fetchStatus(this.host.path('/run/calico/calico-cnm.sock'));
  }

  /** Returns the number of dropped packets of a container in `calico-cnm status`, over all rules whose text matches. */
  async dropped(container: string, rule: RegExp = /./): Promise<number> {
    const { drops } = await this.status();
    return drops
      .filter((drop) => drop.container === container && rule.test(drop.rule))
      .reduce((sum, { packets }) => sum + packets, 0);
  }

  /**
   * Checks that a probe fails now and succeeds after one change, and that its packets were counted as dropped, so it
   * did not fail for another reason.
   */
  async onlyAfter(options: {
    readonly probe: () => Promise<boolean>;
    readonly droppedAt: string;
    readonly change: () => Promise<unknown>;
  }): Promise<void> {
    const before = await this.dropped(options.droppedAt);
    assert.equal(await options.probe(), false, 'the probe must be refused at first');
    const after = await this.dropped(options.droppedAt);
    assert.ok(after > before, `drops of ${options.droppedAt} must rise (${before}, ${after})`);
    await options.change();
    assert.equal(await this.eventually(options.probe), true, 'the probe must succeed afterwards');
  }

  /** Polls until the condition is true, with patience because the machine may be busy. */
  eventually(ask: () => Promise<boolean>, patienceMs?: number): Promise<boolean> {
    return eventually(ask, patienceMs);
  }

  /** Removes all containers, and all networks except Docker's defaults. */
  async clear(): Promise<void> {
    const containers = (await this.docker('ps', '-aq')).split('\n').filter((id) => id !== '');
    if (containers.length > 0) await this.docker('rm', '-f', ...containers);
    const networks = (await this.docker('network', 'ls', '-q', '-f', 'type=custom'))
      .split('\n')
      .filter((id) => id !== '');
    if (networks.length > 0) await this.docker('network', 'rm', ...networks);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const log = this.host.calicoLog();
    const isShown = process.env['CALICO_LAB_LOG'] !== undefined || /^\s+at /m.test(log);
    if (isShown) process.stderr.write(log);
    await this.host[Symbol.asyncDispose]();
    await this.etcd?.[Symbol.asyncDispose]();
  }
}

/** The disk that the suite requires; CALICO_LAB_WRITES sets the writes per second for other suites. */
function givenDisk({ writesPerSecond }: LabKind): Pick<LabKind, 'writesPerSecond'> {
  const asked = process.env['CALICO_LAB_WRITES'];
  if (writesPerSecond !== undefined) return { writesPerSecond };
  return asked === undefined ? {} : { writesPerSecond: Number(asked) };
}

/** Starts host, datastore, calico-cnm and Docker; without an uplink the host has no default route. */
export async function startLab(
  kind: LabKind,
  extra: Readonly<Record<string, string>> = {},
  uplink = true,
): Promise<NetworkLab> {
  const host = await startHost({ ...kind, ...givenDisk(kind), uplink });
  try {
    const etcd =
      kind.datastore === 'etcd'
        ? await startEtcd({ enter: host.machine.enterNetwork, port: 2379 })
        : undefined;
    const environment = {
      ...(etcd === undefined ? {} : { ETCD_ENDPOINTS: etcd.endpoint }),
      ...extra,
    };
    const lab = new NetworkLab(host, etcd, environment);
    await host.startCalico(environment);
    await host.startDocker();
    return lab;
  } catch (error) {
    await host[Symbol.asyncDispose]();
    throw error;
  }
}
