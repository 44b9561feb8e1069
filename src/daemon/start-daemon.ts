import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { pause } from '../async/deadline.ts';
import { loadSettings, settingsFile } from '../config/load.ts';
import type { Settings } from '../config/settings.ts';
import { listenOnSocketFile } from '../driver/plugin/socket-file.ts';
import { describe, isCalicoError, type CalicoError } from '../errors/error.ts';
import { checkStart } from '../host/check-start.ts';
import { makeSysctlWritable, writeCommand } from './managed-plugin.ts';
import { requireNetworkRoot } from './network-root.ts';
import { lockHost } from './host-lock.ts';

/** sysexits.h: EX_UNAVAILABLE and EX_CONFIG; the service manager does not try again by itself. */
const unavailable = 69;
const wrongSettings = 78;
/**
 * Docker starts a plugin that ends again at once, and of an `enable` that fails the second attempt kills what the
 * next `enable` has started. So a managed plugin that cannot start waits until Docker gives up (13 s) and ends it.
 */
const lingerMs = 30_000;

export interface DaemonWorld {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  /** For what ends the start, a line. */
  readonly error: (text: string) => void;
}

/**
 * Starts the daemon and answers its exit status when it has ended. Docker looks for a managed plugin's socket half
 * a second after its start, and then only every three seconds, and takes it for started once it listens. So that one
 * listens as soon as it is known that it can run, before most of the program is loaded; calls wait meanwhile.
 */
export async function startDaemon({ environment, signal, error }: DaemonWorld): Promise<number> {
  try {
    const { settings, notes } = loadSettings(environment, settingsFile);
    for (const note of notes) error(`calico-cnm: ${note}\n`);
    requireNetworkRoot(readFileSync('/proc/self/status', 'utf8'));
    await checkStart(settings);
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
