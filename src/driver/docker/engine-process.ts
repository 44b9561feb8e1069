import { existsSync } from 'node:fs';
import { processIds, processName } from '../../dataplane/processes.ts';

/**
 * Tells whether dockerd runs, so that nobody wakes it by asking: systemd listens on its socket in its stead
 * (docker.socket) and starts it for whoever connects, even after `systemctl stop docker`.
 */
export class EngineProcess {
  readonly #root: string;
  #known: string | undefined;

  constructor(root = '/') {
    this.#root = root;
  }

  /** Without systemd on this host, or where it cannot be seen, the engine may be asked at any time. */
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
