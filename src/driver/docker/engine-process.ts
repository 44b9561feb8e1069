import { existsSync } from 'node:fs';
import { processIds, processName } from '../../dataplane/processes.ts';

/**
 * Reports whether dockerd runs, so that no request starts it: systemd listens on its socket (docker.socket) and starts
 * dockerd for any connection, even after `systemctl stop docker`.
 */
export class EngineProcess {
  readonly #root: string;
  #known: string | undefined;

  constructor(root = '/') {
    this.#root = root;
  }

  /** Without systemd on this host, or if it cannot be seen, the engine may be queried at any time. */
  mayBeAsked(): boolean {
    if (!existsSync(`${this.#root}run/systemd/system`)) return true;
    if (this.#known !== undefined && this.#isDockerd(this.#known)) return true;
    this.#known = processIds(this.#root).find((pid) => this.#isDockerd(pid));
    return this.#known !== undefined;
  }

  #isDockerd(pid: string): boolean {
    return processName(pid, this.#root) === 'dockerd';
  }
}
