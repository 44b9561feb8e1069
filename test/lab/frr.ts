import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import type { Machine } from './machine.ts';

/** Configurations of FRR's daemons, as in `/etc/frr/`. */
export interface FrrFiles {
  readonly bgpd: string;
  readonly staticd?: string;
}

const daemons = ['zebra', 'staticd', 'bfdd', 'bgpd'] as const;

/** FRR in a network namespace of a machine, without systemd. Its files have the name of the namespace. */
export class Frr {
  readonly #machine: Machine;
  readonly #namespace: string;

  private constructor(machine: Machine, namespace: string) {
    this.#machine = machine;
    this.#namespace = namespace;
  }

  /** Starts its daemons. Resolves when they have read their configurations. */
  static async start(machine: Machine, namespace: string, files: FrrFiles): Promise<Frr> {
    const frr = new Frr(machine, namespace);
    await machine.run(['install', '-d', '-o', 'frr', '-g', 'frr', `/run/frr/${namespace}`]);
    const texts = { zebra: '', staticd: files.staticd ?? '', bfdd: '', bgpd: files.bgpd };
    for (const daemon of daemons) {
      const config = `/tmp/frr-${namespace}-${daemon}.conf`;
      writeFileSync(machine.path(config), texts[daemon], { mode: 0o644 });
      const argv = [`/usr/lib/frr/${daemon}`, '-N', namespace, '-f', config];
      const inNamespace = ['ip', 'netns', 'exec', namespace, ...argv];
      // A line that it refuses is left out, with a word on standard error only.
      const { stdout, stderr } = await machine.exec([...inNamespace, '-C']);
      assert.doesNotMatch(stdout + stderr, /on config line/, `${daemon} in ${namespace}`);
      await machine.run([...inNamespace, '-d']);
    }
    return frr;
  }

  /** Returns the output of a command of vtysh; throws what it prints if it fails. */
  ask(command: string): Promise<string> {
    const vtysh = ['vtysh', '-N', this.#namespace, '-c', command];
    return this.#machine.run(['ip', 'netns', 'exec', this.#namespace, ...vtysh]);
  }

  /** Ends its daemons. With `KILL` its sessions end without a word, and the routes stay in its kernel. */
  async end(signal: 'TERM' | 'KILL'): Promise<void> {
    const folder = `/run/frr/${this.#namespace}`;
    const script = `
for pid in $(cat ${folder}/*.pid); do
  kill -${signal} $pid
  # One that nobody waits for has no program any more.
  for attempt in $(seq 100); do readlink /proc/$pid/exe >/dev/null || break; sleep 0.1; done
done
rm -r ${folder}`;
    await this.#machine.run(['sh', '-c', script]);
  }
}
