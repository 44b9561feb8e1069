import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ended, tracked } from './children.ts';

/** A real etcd with its own data folder, which is removed with it. */
export interface Etcd extends AsyncDisposable {
  readonly endpoint: string;
  /** Ends the process; keeps the data. */
  stop(): Promise<void>;
  start(): Promise<void>;
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
}

/** Starts etcd, on free loopback ports unless one is given. */
export async function startEtcd(options: EtcdSettings = {}): Promise<Etcd> {
  const folder = mkdtempSync(join(tmpdir(), 'calico-etcd-'));
  const client = options.port ?? (await freePort());
  const peer = options.port === undefined ? await freePort() : options.port + 1;
  const { tls } = options;
  const endpoint = `${tls === undefined ? 'http' : 'https'}://${options.address ?? '127.0.0.1'}:${client}`;
  const enter = options.enter ?? [];
  let child: ChildProcess | undefined;

  const etcdctl = (...argv: readonly string[]) => {
    const [command = '', ...rest] = [
      ...enter,
      'etcdctl',
      `--endpoints=${endpoint}`,
      ...(tls === undefined
        ? []
        : [`--cacert=${tls.ca}`, `--cert=${tls.cert}`, `--key=${tls.key}`]),
      ...argv,
    ];
    const result = spawnSync(command, rest, {
      encoding: 'utf8',
      env: { ...process.env, ETCDCTL_API: '3' },
    });
    if (result.status !== 0) throw new Error(`etcdctl ${argv.join(' ')}: ${result.stderr}`);
    return result.stdout;
  };
  const start = async () => {
    const [command = '', ...rest]: readonly string[] = [
      ...enter,
      'etcd',
      `--data-dir=${folder}`,
      `--listen-client-urls=${endpoint}`,
      `--advertise-client-urls=${endpoint}`,
      `--listen-peer-urls=http://127.0.0.1:${peer}`,
      `--initial-advertise-peer-urls=http://127.0.0.1:${peer}`,
      `--initial-cluster=default=http://127.0.0.1:${peer}`,
      ...(tls === undefined
        ? []
        : [
            '--client-cert-auth',
            `--trusted-ca-file=${tls.ca}`,
            `--cert-file=${tls.cert}`,
            `--key-file=${tls.key}`,
          ]),
    ];
    child = tracked('etcd', spawn(command, rest, { stdio: 'ignore' }));
    for (let attempt = 0; ; attempt++) {
      try {
        etcdctl('endpoint', 'health');
        return;
      } catch (error) {
        if (attempt > 50) throw error;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  };
  const stop = async () => {
    const stopping = child;
    child = undefined;
    if (stopping === undefined || stopping.exitCode !== null) return;
    stopping.kill('SIGCONT');
    stopping.kill('SIGTERM');
    await ended('etcd', stopping);
  };
  await start();
  return {
    endpoint,
    start,
    stop,
    stall: () => child?.kill('SIGSTOP'),
    resume: () => child?.kill('SIGCONT'),
    etcdctl,
    [Symbol.asyncDispose]: async () => {
      await stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}
