import { existsSync, readdirSync, readFileSync } from 'node:fs';

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
    this.#known = readdirSync(`${this.#root}proc`).find((pid) => this.#isDockerd(pid));
    return this.#known !== undefined;
  }

  #isDockerd(pid: string): boolean {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`${this.#root}proc/${pid}/comm`, 'utf8') === 'dockerd\n';
    } catch {
      return false;
    }
  }
}
