import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { CalicoError, isCalicoError } from '../../errors/error.ts';
import { etcdProgram } from './configuration.ts';
import { runTool, type UnitManager } from './units.ts';

/** Debian's etcd, which is installed but not started by its own unit: that would serve anybody on 127.0.0.1:2379. */

/** The package has etcdctl, which restores a backup. */
const packages = ['etcd-server', 'etcd-client'];
const debianUnit = 'etcd.service';
const aptGet = '/usr/bin/apt-get';
const installMs = 600_000;
/** New hosts often upgrade themselves when they are set up: so long is waited for them, and so often is looked. */
const [lockedMs, lockedPollMs] = [300_000, 1000];

/** The commands by which a user installs etcd, so that Debian's own unit does not start. */
export const installCommands: readonly string[] = [
  `systemctl mask ${debianUnit}`,
  'apt-get update',
  `apt-get install -y ${packages.join(' ')}`,
];

/** Returns the version of the installed etcd, such as `3.4.23`; `undefined` without one. Throws `cluster/tool-failed`. */
export async function installedVersion(): Promise<string | undefined> {
  if (!existsSync(etcdProgram)) return undefined;
  const said = await runTool(etcdProgram, ['--version']);
  return /^etcd Version: (\S+)/m.exec(said)?.[1];
}

/**
 * Installs etcd if it is missing; returns its version. Repeatable at every point. Throws `cluster/no-etcd`, which says
 * what to type.
 */
export async function ensureInstalled(
  units: Pick<UnitManager, 'isMasked' | 'mask' | 'unmask'>,
  progress: (line: string) => void,
): Promise<string> {
  const present = await installedVersion();
  if (present !== undefined) return present;
  if (!existsSync(aptGet)) {
    const remedy = `install ${packages.join(' and ')} by the package manager of this host`;
    throw new CalicoError('cluster/no-etcd', { why: 'it has no apt', remedy });
  }
  progress(`installing ${packages.join(' and ')}`);
  // A masked unit is neither started nor enabled by the package.
  const wasMasked = await units.isMasked(debianUnit);
  if (!wasMasked) await units.mask(debianUnit);
  try {
    await install(progress);
  } finally {
    if (!wasMasked) await units.unmask(debianUnit);
  }
  const version = await installedVersion();
  if (version === undefined) throw notInstalled(`${etcdProgram} is missing after the installation`);
  return version;
}

async function install(progress: (line: string) => void): Promise<void> {
  const argv = ['install', '-y', '-q', '--no-install-recommends', ...packages];
  const first = await apt(argv, progress);
  if (first === undefined) return;
  if (remedyFor(first) === makeRoom) throw notInstalled(first);
  // The lists of a host that was just installed, or was not updated for long, name no package or an old one.
  const stale = await apt(['update', '-q', '-o', 'APT::Update::Error-Mode=any'], progress);
  const second = await apt(argv, progress);
  // A repository of others that cannot be read does not matter if the packages were found.
  if (second !== undefined) throw notInstalled(stale ?? second);
}

/** Runs apt-get once its locks are free; returns why it failed, or `undefined`. */
async function apt(
  argv: readonly string[],
  progress: (line: string) => void,
): Promise<string | undefined> {
  const end = Date.now() + lockedMs;
  let told: string | undefined;
  for (;;) {
    try {
      const env = { DEBIAN_FRONTEND: 'noninteractive' };
      await runTool(aptGet, argv, { timeoutMs: installMs, env });
      return undefined;
    } catch (error) {
      if (!isCalicoError(error, 'cluster/tool-failed')) throw error;
      const { why } = error.detail;
      const lock = heldLock(why);
      if (lock === undefined || Date.now() > end) return why;
      if (lock !== told) progress(`waiting for the apt lock (${lock})`);
      told = lock;
    }
    await sleep(lockedPollMs);
  }
}

/** Returns the lock that apt could not get, with its holder as apt names it; `undefined` for other failures. */
export function heldLock(why: string): string | undefined {
  const [, lock, holder] =
    /^Could not get lock (\S+?)\.?(?: It is held by (process .*)| - open .*)?$/.exec(why) ?? [];
  if (lock === undefined) return undefined;
  return holder === undefined ? lock : `${lock}, held by ${holder}`;
}

const makeRoom = 'make room';

function notInstalled(why: string): CalicoError {
  return new CalicoError('cluster/no-etcd', { why, remedy: remedyFor(why) });
}

/** Returns what to do about a failure in the words of apt. */
export function remedyFor(why: string): string {
  if (/no space left|enough free space/i.test(why)) return makeRoom;
  if (heldLock(why) !== undefined) return 'wait until that process has ended';
  if (/^Failed to fetch|Could not connect|Could not resolve|Temporary failure/.test(why)) {
    return 'check network and proxy';
  }
  return `install it: ${installCommands.join(' && ')}`;
}

/** Returns the first two numbers of a version, by which etcd decides which members fit together. */
export function minorOf(version: string): readonly [number, number] {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return [major, minor];
}

/** Reports whether an etcd can be a member of a cluster of a version: an older one cannot join. Source: etcd, version. */
export function canJoin(own: string, cluster: string): boolean {
  const [a, b] = [minorOf(own), minorOf(cluster)];
  return a[0] === b[0] && a[1] >= b[1];
}
