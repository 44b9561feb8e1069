import { connect } from 'node:net';
import { join } from 'node:path';
import { CalicoError } from '../../errors/error.ts';
import { readIfPresent, replaceFileSync } from '../../async/replace-file.ts';
import type { ClusterPaths } from '../cluster-file.ts';
import { clientPort, etcdUnit } from './configuration.ts';
import { configuredAddress } from './local-member.ts';
import { installCommands } from './package.ts';
import { Systemd, type UnitManager } from './units.ts';

const connectMs = 1000;

/**
 * The service manager of a host that the managed plugin cannot reach: the plugin writes what etcd needs, and the user
 * runs the commands. Whether etcd runs is visible at its port.
 */
export class UnitsByHand implements UnitManager {
  readonly #paths: ClusterPaths;
  readonly #tell: (line: string) => void;

  constructor(paths: ClusterPaths, tell: (line: string) => void) {
    this.#paths = paths;
    this.#tell = tell;
  }

  install(unit: string, text: string): Promise<boolean> {
    const file = this.#file(unit);
    const isChanged = readIfPresent(file) !== text;
    if (isChanged) replaceFileSync(file, text, 0o644);
    return Promise.resolve(isChanged);
  }

  /** Throws `cluster/type-on-host` unless it runs. */
  async start(unit: string): Promise<void> {
    if (await this.isActive(unit)) return;
    throw byHand([
      ...installCommands,
      `cp ${this.#file(unit)} /etc/systemd/system/`,
      'systemctl daemon-reload',
      `systemctl enable --now ${unit}`,
    ]);
  }

  /** Throws `cluster/type-on-host`. */
  restart(unit: string): Promise<void> {
    return Promise.reject(byHand([`systemctl restart ${unit}`]));
  }

  isActive(unit: string): Promise<boolean> {
    const host = configuredAddress(this.#paths);
    if (unit !== etcdUnit || host === undefined) return Promise.resolve(false);
    return new Promise((resolve) => {
      const socket = connect({ host, port: clientPort, timeout: connectMs });
      const answer = (isActive: boolean) => {
        socket.destroy();
        resolve(isActive);
      };
      socket.once('connect', () => answer(true));
      socket.once('error', () => answer(false));
      socket.once('timeout', () => answer(false));
    });
  }

  async remove(unit: string): Promise<void> {
    if (!(await this.isActive(unit))) return;
    this.#tell(
      `run as root on the host: systemctl disable --now ${unit}; rm /etc/systemd/system/${unit}`,
    );
  }

  mask(): Promise<void> {
    return Promise.resolve();
  }

  unmask(): Promise<void> {
    return Promise.resolve();
  }

  isMasked(): Promise<boolean> {
    return Promise.resolve(false);
  }

  #file(unit: string): string {
    return join(this.#paths.etcd, unit);
  }
}

/** Returns the service manager for the form in which the program runs. `tell` gets commands for the user. */
export function unitsOf(
  host: { readonly isManagedPlugin: boolean; readonly paths: ClusterPaths },
  tell: (line: string) => void,
): UnitManager {
  return host.isManagedPlugin ? new UnitsByHand(host.paths, tell) : new Systemd();
}

function byHand(commands: readonly string[]): CalicoError {
  return new CalicoError('cluster/type-on-host', { command: commands.join(' && ') });
}
