import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ended, tracked } from './children.ts';
import { patienceMs } from './poll.ts';
import { ownEnvironment, runCommand } from './process.ts';
import { freePort } from '../../src/cluster/etcd/free-port.ts';

/** A real etcd with its own data folder, which is removed with it. */
export interface Etcd extends AsyncDisposable {
  readonly endpoint: string;
  /** Ends the process; keeps the data. */
  stop(): Promise<void>;
  /** Resolves when it is healthy, so the members of a stopped cluster must be started at the same time. */
  start(): Promise<void>;
  /** Stops it, replaces its data by that of a snapshot, as another cluster, and starts it; for a single member. */
  restore(snapshot: string): Promise<void>;
  /** Stops the process (SIGSTOP); its connections stay open. */
  stall(): void;
  resume(): void;
  /** Runs etcdctl with the arguments; throws its output if it fails. */
  etcdctl(...argv: readonly string[]): string;
}

/** PEM files. */
export interface CertificateFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface EtcdSettings {
  /** A command prefix, for another network namespace. */
  readonly enter?: readonly string[];
  readonly port?: number;
  /** The address it listens on; 127.0.0.1 by default. */
  readonly address?: string;
  /** Serves TLS with this certificate and requires client certificates of the same CA. */
  readonly tls?: CertificateFiles;
  /** The client certificate of etcdctl; by default that of the server. */
  readonly admin?: CertificateFiles;
  /** The folder in which it creates its data folder; by default the one for temporary files. */
  readonly folder?: string;
}

/** Starts etcd, on free loopback ports unless one is given. */
export async function startEtcd(options: EtcdSettings = {}): Promise<Etcd> {
  const port = options.port ?? (await freePort());
  const peerPort = options.port === undefined ? await freePort() : options.port + 1;
  const etcd = new EtcdProcess(options, {
    client: urlOf(options, options.address ?? '127.0.0.1', port),
    peer: `http://127.0.0.1:${peerPort}`,
    members: `default=http://127.0.0.1:${peerPort}`,
    name: 'default',
  });
  await etcd.start();
  return etcd;
}

/** Starts a cluster with a member at each address, on the default ports; its members use the same TLS to each other. */
export async function startEtcdCluster(
  addresses: readonly string[],
  options: Omit<EtcdSettings, 'address' | 'port'>,
): Promise<readonly Etcd[]> {
  const peers = addresses.map((address, index) => ({
    name: `etcd-${index + 1}`,
    url: urlOf(options, address, 2380),
    client: urlOf(options, address, 2379),
  }));
  const members = peers.map(({ name, url, client }) => {
    const all = peers.map((peer) => `${peer.name}=${peer.url}`).join(',');
    return new EtcdProcess(options, { name, client, peer: url, members: all });
  });
  await Promise.all(members.map((member) => member.start()));
  return members;
}

function urlOf({ tls }: EtcdSettings, address: string, port: number): string {
  return `${tls === undefined ? 'http' : 'https'}://${address}:${port}`;
}

interface EtcdMember {
  readonly name: string;
  readonly client: string;
  readonly peer: string;
  readonly members: string;
}

class EtcdProcess implements Etcd {
  readonly #member: EtcdMember;
  readonly endpoint: string;
  readonly #settings: EtcdSettings;
  readonly #command: readonly string[];
  readonly #folder: string;
  #child: ChildProcess | undefined;

  constructor(settings: EtcdSettings, member: EtcdMember) {
    const { tls, enter = [] } = settings;
    this.#member = member;
    this.#settings = settings;
    this.#folder = mkdtempSync(join(settings.folder ?? tmpdir(), 'calico-etcd-'));
    this.endpoint = member.client;
    const peerTls = tls !== undefined && member.peer.startsWith('https:');
    this.#command = [
      // It must not outlive a test that is killed.
      'setpriv',
      '--pdeathsig',
      'KILL',
      '--',
      ...enter,
      'etcd',
      `--name=${member.name}`,
      `--data-dir=${this.#folder}`,
      `--listen-client-urls=${member.client}`,
      `--advertise-client-urls=${member.client}`,
      `--listen-peer-urls=${member.peer}`,
      `--initial-advertise-peer-urls=${member.peer}`,
      `--initial-cluster=${member.members}`,
      ...(tls === undefined ? [] : ['--client-cert-auth', ...tlsFlags('', tls)]),
      ...(peerTls ? ['--peer-client-cert-auth', ...tlsFlags('peer-', tls)] : []),
    ];
  }

  async start(): Promise<void> {
    const [command = '', ...rest] = this.#command;
    this.#child = tracked('etcd', spawn(command, rest, { stdio: 'ignore' }));
    const health = this.#etcdctlCommand(['endpoint', 'health']);
    const deadline = Date.now() + patienceMs;
    for (;;) {
      const { status, stderr } = await runCommand(health, { env: etcdctlEnvironment() });
      if (status === 0) return;
      if (Date.now() > deadline) throw new Error(`etcd did not start: ${stderr}`);
      await sleep(50);
    }
  }

  async stop(): Promise<void> {
    const stopping = this.#child;
    this.#child = undefined;
    if (stopping === undefined || stopping.exitCode !== null) return;
    stopping.kill('SIGCONT');
    stopping.kill('SIGTERM');
    await ended('etcd', stopping);
  }

  async restore(snapshot: string): Promise<void> {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
    const restored = this.#etcdctlCommand([
      'snapshot',
      'restore',
      snapshot,
      `--data-dir=${this.#folder}`,
      '--name=default',
      `--initial-cluster=${this.#member.members}`,
      `--initial-advertise-peer-urls=${this.#member.peer}`,
      '--initial-cluster-token=restored',
    ]);
    const { status, stderr } = await runCommand(restored, { env: etcdctlEnvironment() });
    if (status !== 0) throw new Error(`etcdctl snapshot restore: ${stderr}`);
    await this.start();
  }

  stall(): void {
    this.#child?.kill('SIGSTOP');
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  etcdctl(...argv: readonly string[]): string {
    const [command = '', ...rest] = this.#etcdctlCommand(argv);
    const result = spawnSync(command, rest, { encoding: 'utf8', env: etcdctlEnvironment() });
    if (result.status !== 0) throw new Error(`etcdctl ${argv.join(' ')}: ${result.stderr}`);
    return result.stdout;
  }

  #etcdctlCommand(argv: readonly string[]): readonly string[] {
    const { enter = [], tls, admin: client = tls } = this.#settings;
    const access =
      client === undefined
        ? []
        : [`--cacert=${client.ca}`, `--cert=${client.cert}`, `--key=${client.key}`];
    return [...enter, 'etcdctl', `--endpoints=${this.endpoint}`, ...access, ...argv];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function tlsFlags(prefix: string, { ca, cert, key }: CertificateFiles): readonly string[] {
  return [
    `--${prefix}trusted-ca-file=${ca}`,
    `--${prefix}cert-file=${cert}`,
    `--${prefix}key-file=${key}`,
  ];
}

function etcdctlEnvironment(): Record<string, string> {
  return { ...ownEnvironment(), ETCDCTL_API: '3' };
}
