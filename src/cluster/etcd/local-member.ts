import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { readIfPresent, replaceFileSync } from '../../async/replace-file.ts';
import { CalicoError } from '../../errors/error.ts';
import type { ClusterPaths } from '../cluster-file.ts';
import type { EtcdAdmin } from './admin.ts';
import {
  addressIn,
  configurationFile,
  configurationText,
  dataFolder,
  etcdUnit,
  unitText,
  type EtcdConfiguration,
} from './configuration.ts';
import { isWorking } from './observed-members.ts';
import type { UnitManager } from './units.ts';

/** The member of etcd that runs on this host. */

const pollMs = 100;

/** Writes configuration and unit; returns whether either has changed. */
export async function configureMember(
  configuration: EtcdConfiguration,
  { paths, units }: { readonly paths: ClusterPaths; readonly units: UnitManager },
): Promise<boolean> {
  const file = configurationFile(paths);
  const text = configurationText(configuration, paths);
  const isChanged = readIfPresent(file) !== text;
  mkdirSync(dataFolder(paths), { recursive: true, mode: 0o700 });
  if (isChanged) replaceFileSync(file, text, 0o600);
  return (await units.install(etcdUnit, unitText(paths))) || isChanged;
}

/** Returns the address with which the member of this host is configured; `undefined` without one. */
export function configuredAddress(paths: ClusterPaths): string | undefined {
  const text = readIfPresent(configurationFile(paths)) ?? '';
  const [, url] = /^advertise-client-urls: "(.*)"$/m.exec(text) ?? [];
  return url === undefined ? undefined : addressIn(url);
}

/** Returns the addresses of the member of this host, and of the others when it was added; none without a member. */
export function configuredPeers(paths: ClusterPaths): readonly string[] {
  const text = readIfPresent(configurationFile(paths)) ?? '';
  const own = configuredAddress(paths);
  const [, peers = ''] = /^initial-cluster: "(.*)"$/m.exec(text) ?? [];
  const urls = [...peers.matchAll(/=([^,]+)(?:,|$)/g)].map(([, url = '']) => addressIn(url));
  return own === undefined ? [] : [own, ...urls.filter((address) => address !== own)];
}

/** Starts the member, or restarts it if its configuration has changed. Repeatable. */
export async function startMember(
  configuration: EtcdConfiguration,
  host: { readonly paths: ClusterPaths; readonly units: UnitManager },
): Promise<void> {
  const isChanged = await configureMember(configuration, host);
  if (isChanged && (await host.units.isActive(etcdUnit))) await host.units.restart(etcdUnit);
  else await host.units.start(etcdUnit);
}

/** Ends the member of this host for good, with its data. Repeatable. */
export async function removeMember({
  paths,
  units,
}: {
  readonly paths: ClusterPaths;
  readonly units: UnitManager;
}): Promise<void> {
  await units.remove(etcdUnit);
  rmSync(dataFolder(paths), { recursive: true, force: true });
  rmSync(configurationFile(paths), { force: true });
}

/** Reports whether this host has data of a member. */
export function hasMemberData(paths: ClusterPaths): boolean {
  return existsSync(`${dataFolder(paths)}/member`);
}

/**
 * Waits until a member responds and has a leader. Throws `cluster/etcd-not-ready` with its last response and the log
 * of its unit as the remedy.
 */
export async function waitUntilReady(
  admin: Pick<EtcdAdmin, 'status'>,
  url: string,
  timeoutMs: number,
): Promise<void> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const status = await admin.status({ clientUrls: [url] });
    if (isWorking(status)) return;
    const why = typeof status === 'string' ? status : 'it has no leader';
    if (Date.now() > end) throw new CalicoError('cluster/etcd-not-ready', { url, why });
    await sleep(pollMs);
  }
}
