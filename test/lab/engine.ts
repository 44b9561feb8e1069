import { createHash } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Machine } from './machine.ts';
import { outputOf, ownEnvironment, type BackgroundProcess } from './process.ts';

/** A Docker Engine of Debian to test on. */
export type Engine = '20.10' | '26.1' | '28.5';

/** The oldest and the newest engine, for suites that run on each. */
export const engines: readonly Engine[] = ['20.10', '28.5'];

/** Also the engine between them, for suites that depend on Docker's calls and their order. */
export const moreEngines: readonly Engine[] = [...engines, '26.1'];

const mirror = 'http://deb.debian.org/debian';

const common = [
  'ca-certificates',
  'conntrack',
  'docker.io',
  'iproute2',
  'ipset',
  'iptables',
  'iputils-ping',
  'nftables',
  'procps',
];

const releases = {
  '20.10': { suite: 'bookworm', packages: [...common, 'busybox-static'], options: [] },
  '26.1': { suite: 'trixie', packages: [...common, 'docker-cli'], options: [] },
  '28.5': {
    suite: 'sid',
    packages: [...common, 'docker-cli', 'docker-compose'],
    options: ['--aptopt=Acquire::Check-Valid-Until "false"'],
  },
} as const;

const besideDocker = [
  'dbus',
  'docker-compose',
  'firewalld',
  'network-manager',
  'openssh-server',
  'radvd',
  'systemd',
  'ufw',
];

/** The folder that caches root file systems between runs: $CALICO_LAB_CACHE, or below /var/cache. */
export function cacheFolder(): string {
  return process.env['CALICO_LAB_CACHE'] ?? '/var/cache/calico-cnm';
}

/**
 * Returns the folder of a Debian root file system with the engine. mmdebstrap creates it if it is not in the cache yet
 * (20 s, 450 MB); several processes may call it concurrently. Its name depends on the list of packages, so another list
 * gets another folder.
 */
export async function engineRoot(engine: Engine): Promise<string> {
  return debianRoot(releases[engine]);
}

/** Returns the folder of a Debian 12 with Docker, firewalls, network managers and docker-compose 1.29. */
export async function furnishedRoot(): Promise<string> {
  const { suite, packages, options } = releases['20.10'];
  return debianRoot({ suite, packages: [...packages, ...besideDocker], options });
}

/** Routers of several makes, for tests of BGP. */
const routers = ['bird2', 'frr', 'gobgpd', 'tcpdump'];

/** Returns the folder of a Debian 12 with Docker, BIRD 2, FRR and GoBGP. */
export async function routingRoot(): Promise<string> {
  const { suite, packages, options } = releases['20.10'];
  return debianRoot({ suite, packages: [...packages, ...routers], options });
}

/** Returns the folder of a minimal Debian (12 or 13). */
export async function bareRoot(suite: 'bookworm' | 'trixie'): Promise<string> {
  return debianRoot({ suite, packages: [], options: [] });
}

async function debianRoot(release: {
  readonly suite: string;
  readonly packages: readonly string[];
  readonly options: readonly string[];
}): Promise<string> {
  const { suite, packages, options } = release;
  const digest = createHash('sha256').update(packages.join(' ')).digest('hex').slice(0, 8);
  const folder = `${cacheFolder()}/${suite}-${digest}`;
  if (existsSync(folder)) return folder;
  mkdirSync(cacheFolder(), { recursive: true });
  const script = `
    [ ! -e "$0" ] || exit 0
    rm -rf "$0.part"
    mmdebstrap --variant=minbase "$@" "$0.part" ${mirror} && mv "$0.part" "$0"`;
  const include = packages.length === 0 ? [] : [`--include=${packages.join(',')}`];
  await outputOf(
    ['flock', `${folder}.lock`, 'sh', '-c', script, folder, ...options, ...include, suite],
    { timeoutMs: 600_000, env: ownEnvironment() },
  );
  return folder;
}

/** Starts dockerd with its default settings and the flags, and waits until it responds. */
export async function startDockerd(
  machine: Machine,
  flags: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<BackgroundProcess> {
  // Without systemd, control groups are created in the file system, below one with the machine's name.
  const groups = ['--exec-opt', 'native.cgroupdriver=cgroupfs', '--cgroup-parent'];
  const dockerd = machine.spawn(['dockerd', ...groups, `/${machine.name}`, ...flags], env);
  const deadline = Date.now() + 180_000;
  while (!(await answers(machine.path('/run/docker.sock')))) {
    if (dockerd.status !== undefined || Date.now() > deadline) {
      await dockerd.end('SIGKILL');
      throw new Error(`dockerd did not start: ${dockerd.output().slice(-2000)}`);
    }
    await sleep(20);
  }
  return dockerd;
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request(
      { socketPath, path: '/_ping', timeout: 2000, agent: false },
      (response) => {
        response.resume();
        resolve(response.statusCode === 200);
      },
    );
    asked.on('timeout', () => asked.destroy(new Error('no answer')));
    asked.on('error', () => resolve(false));
    asked.end();
  });
}
