import { spawn, type ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { UnitManager } from '../../src/cluster/etcd/units.ts';
import { ended, tracked } from './children.ts';

/** A service manager for tests: it runs a unit's ExecStart as a child, again whenever it ends, as `Restart=always`. */
export class ProcessUnits implements UnitManager, AsyncDisposable {
  readonly #texts = new Map<string, string>();
  readonly #children = new Map<string, ChildProcess>();
  /** The last output of the units. */
  log = '';

  install(unit: string, text: string): Promise<boolean> {
    const isChanged = this.#texts.get(unit) !== text;
    this.#texts.set(unit, text);
    return Promise.resolve(isChanged);
  }

  start(unit: string): Promise<void> {
    if (!this.#children.has(unit)) this.#run(unit);
    return Promise.resolve();
  }

  #run(unit: string): void {
    const [, command = ''] = /^ExecStart=(.*)$/m.exec(this.#texts.get(unit) ?? '') ?? [];
    const [program = '', ...argv] = command.split(' ');
    const wrapped = ['--pdeathsig', 'KILL', '--', program, ...argv];
    const child = tracked(unit, spawn('setpriv', wrapped, { stdio: ['ignore', 'ignore', 'pipe'] }));
    child.stderr.on('data', (chunk: Buffer) => {
      this.log = `${this.log}${chunk.toString()}`.slice(-20_000);
    });
    this.#children.set(unit, child);
    child.once('exit', () => {
      if (this.#children.get(unit) !== child) return;
      setTimeout(() => {
        if (this.#children.get(unit) === child) this.#run(unit);
      }, 200);
    });
  }

  async restart(unit: string): Promise<void> {
    await this.stop(unit);
    this.#run(unit);
  }

  /** Stops a unit until it is started again. */
  async stop(unit: string, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#children.get(unit);
    this.#children.delete(unit);
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await ended(unit, child);
  }

  /** Kills the process of a unit, which is then started again. */
  kill(unit: string): void {
    this.#children.get(unit)?.kill('SIGKILL');
  }

  isActive(unit: string): Promise<boolean> {
    return Promise.resolve(this.#children.has(unit));
  }

  async remove(unit: string): Promise<void> {
    await this.stop(unit);
    this.#texts.delete(unit);
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

  async [Symbol.asyncDispose](): Promise<void> {
    for (const unit of this.#children.keys()) await this.stop(unit, 'SIGKILL');
    await sleep(0);
  }
}
