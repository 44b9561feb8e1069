import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { pause } from '../async/deadline.ts';
import { loadSettings, settingsFile } from '../config/load.ts';
import type { Settings } from '../config/settings.ts';
import { listenOnSocketFile } from '../driver/plugin/socket-file.ts';
import { describe, isCalicoError, type CalicoError } from '../errors/error.ts';
import type { DatastoreOptions } from '../datastore/open-datastore.ts';
import { clusterPaths, readClusterFile } from '../cluster/cluster-file.ts';
import { datastoreOptions } from '../host/from-settings.ts';
import { checkStart } from '../host/check-start.ts';
import { makeSysctlWritable, writeCommand } from './managed-plugin.ts';
import { requireNetworkRoot } from './network-root.ts';
import { lockHost } from './host-lock.ts';

/** sysexits.h: EX_UNAVAILABLE and EX_CONFIG; the service manager does not restart the daemon for these. */
const unavailable = 69;
const wrongSettings = 78;
/**
 * Docker restarts a plugin that exits immediately, and the second attempt of a failed `enable` kills the process that
 * the next `enable` has started. Therefore a managed plugin that cannot start waits until Docker gives up (13 s) and
 * kills it.
 */
const lingerMs = 30_000;

export interface DaemonWorld {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  /** Reports a failed start in one line. */
  readonly error: (text: string) => void;
}

/**
 * Runs the daemon and returns its exit status. Docker checks a managed plugin's socket half a second after its start,
 * then only every three seconds, and considers it started once it listens. Therefore this socket listens as soon as
 * the daemon is known to be able to run, before most of the program is loaded; calls wait until then.
 */
export async function startDaemon({ environment, signal, error }: DaemonWorld): Promise<number> {
  try {
    const { settings, notes } = loadSettings(environment, settingsFile);
    for (const note of notes) error(`calico-cnm: ${note}\n`);
    requireNetworkRoot(readFileSync('/proc/self/status', 'utf8'));
    await checkStart(await datastoreOf(settings));
    const managed = await startManaged(settings, environment, error);
    const { runDaemon } = await import('./daemon.ts');
    await runDaemon(settings, { signal, managed });
    return 0;
  } catch (thrown) {
    error(`calico-cnm: ${describe(thrown)}\n`);
    if ((environment['CALICO_MANAGED_SOCKET'] ?? '') !== '') await pause(lingerMs, signal);
    return isCalicoError(thrown) ? statusOf(thrown) : 1;
  }
}

/** Hosts of a cluster alone load what they need for it. */
async function datastoreOf(settings: Settings): Promise<DatastoreOptions> {
  if (readClusterFile(clusterPaths(settings)) === undefined) return datastoreOptions(settings);
  const { datastoreAccess } = await import('../cluster/datastore-access.ts');
  return datastoreAccess(settings, 'node');
}

function statusOf({ code }: CalicoError): number {
  if (code === 'driver/host-is-served' || code === 'driver/runs-already') return unavailable;
  return code.startsWith('config/') ? wrongSettings : 1;
}

async function startManaged(
  { managedSocket, controlSocket }: Settings,
  environment: DaemonWorld['environment'],
  error: DaemonWorld['error'],
) {
  lockHost(
    dirname(controlSocket),
    managedSocket === undefined ? 'systemd daemon' : 'managed plugin',
  );
  if (managedSocket === undefined) return undefined;
  makeSysctlWritable();
  const problem = writeCommand(environment);
  if (problem !== undefined) error(`calico-cnm: no command line for the host: ${problem}\n`);
  return listenOnSocketFile(managedSocket);
}
