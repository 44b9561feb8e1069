import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { builtProgram, checkout } from './built.ts';
import { ended, tracked } from './children.ts';
import {
  BackgroundProcess,
  outputOrThrow,
  runCommand,
  type CommandOptions,
  type CommandResult,
} from './process.ts';

/** The backend of the `iptables` commands of a machine. */
export type IptablesBackend = 'legacy' | 'nft';

/** Options of a machine. */
export interface MachineOptions {
  /** The folder of its root file system; it is never written to. */
  readonly root: string;
  readonly backend: IptablesBackend;
  /** With an uplink it has a default route, through a router without routes to containers. */
  readonly uplink: boolean;
  /** A folder that keeps its writes from one machine to the next; without it nothing is kept. */
  readonly disk?: string;
  /**
   * Writes per second of the disk with the data of Docker and calico-cnm, so that flushing takes time as on a real
   * disk: with 20, each flush of a file takes 40 ms. By default the data is in memory.
   */
  readonly writesPerSecond?: number;
  /** Its host name; by default a unique name. */
  readonly hostname?: string;
  /** Whether its first process is systemd, which must be in the root; it starts the enabled units. */
  readonly systemd?: boolean;
  /** Whether it has no calico-cnm, for tests that install it. */
  readonly bare?: boolean;
}

/** Addresses of the uplink; the far ones are beyond the router. All are for documentation. */
export const uplinkAddresses = {
  host: '203.0.113.2',
  router: '203.0.113.1',
  far: '198.51.100.1',
  hostV6: '2001:db8:113::2',
  routerV6: '2001:db8:113::1',
  farV6: '2001:db8:100::1',
} as const;

const environment = {
  PATH: '/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin',
  HOME: '/root',
  LANG: 'C.UTF-8',
} as const;

let machinesMade = 0;

/** Creates a machine: its own network, mount, uts, ipc and process namespaces over the given root. */
export async function startMachine(options: MachineOptions): Promise<Machine> {
  const name = `calico-lab-${process.pid}-${++machinesMade}`;
  const hostname = options.hostname ?? name;
  const holder = tracked(
    name,
    spawn(
      `${import.meta.dirname}/machine.sh`,
      [
        'hold',
        name,
        hostname,
        options.root,
        checkout,
        options.backend,
        options.uplink ? 'yes' : 'no',
        options.disk ?? '',
        options.bare === true ? '' : `${await builtProgram()}/main.js`,
        options.systemd === true ? 'systemd' : 'none',
        options.writesPerSecond === undefined ? '' : String(options.writesPerSecond),
      ],
      // In its own process group: an interrupt from the terminal must not kill it before it has cleaned up.
      { stdio: 'pipe', detached: true, env: environment },
    ),
  );
  const errors: Buffer[] = [];
  holder.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  // Its output ends with it.
  const timer = setTimeout(() => holder.kill('SIGKILL'), 120_000);
  for await (const line of createInterface({ input: holder.stdout })) {
    const pid = /^ready (\d+)$/.exec(line)?.[1];
    if (pid === undefined) continue;
    clearTimeout(timer);
    return new Machine(name, Number(pid), holder, {
      hostname,
      hasSlowDisk: options.writesPerSecond !== undefined,
    });
  }
  clearTimeout(timer);
  throw new Error(`machine ${name} did not start: ${Buffer.concat(errors).toString().trim()}`);
}

/** A machine of namespaces. Nothing of it is left when it is disposed of, or when this process ends in any way. */
export class Machine implements AsyncDisposable {
  readonly name: string;
  readonly hostname: string;
  /** The id of its first process, in the process namespace of the tests. */
  readonly pid: number;
  readonly #holder: ChildProcess;
  readonly #processes: BackgroundProcess[] = [];
  readonly #hasSlowDisk: boolean;

  constructor(
    name: string,
    pid: number,
    holder: ChildProcess,
    has: { readonly hostname: string; readonly hasSlowDisk: boolean },
  ) {
    this.hostname = has.hostname;
    this.#hasSlowDisk = has.hasSlowDisk;
    this.name = name;
    this.pid = pid;
    this.#holder = holder;
  }

  /** Command prefix to run a command in the machine's network with the files of the tests. */
  get enterNetwork(): readonly string[] {
    return ['nsenter', `--net=/proc/${this.pid}/ns/net`];
  }

  /** The path under which the tests reach a file or socket of the machine. */
  path(inside: string): string {
    return `/proc/${this.pid}/root${inside}`;
  }

  /** Runs a command in the machine to its end. */
  exec(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return runCommand(this.#entered(argv), { ...options, env: { ...environment, ...options.env } });
  }

  /** Returns the standard output of a command in the machine; throws its output if it fails. */
  async run(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
    return outputOrThrow(argv, await this.exec(argv, options));
  }

  /** Starts a program in the background in the machine. */
  spawn(argv: readonly string[], env: Readonly<Record<string, string>> = {}): BackgroundProcess {
    const started = new BackgroundProcess(this.#entered(argv), { ...environment, ...env });
    this.#processes.push(started);
    return started;
  }

  /** Waits until the machine has ended itself; returns the exit status of its first process. */
  async ended(): Promise<number | null> {
    const end = Date.now() + 120_000;
    while (this.#holder.exitCode === null) {
      if (Date.now() > end) throw new Error(`machine ${this.name} does not end`);
      // A shutdown stops all processes first, and with them each nsenter. They must continue, because the machine has
      // ended only when each nsenter has waited for its program.
      for (const process of this.#processes) process.signal('SIGCONT');
      await sleep(50);
    }
    await Promise.all(this.#processes.map((process) => process.ended()));
    return this.#holder.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#holder.exitCode !== null || this.#holder.signalCode !== null) return;
    this.#holder.stdin?.end();
    await ended(this.name, this.#holder);
    await Promise.all(this.#processes.map((process) => process.ended()));
    if (this.#holder.exitCode !== 0) {
      throw new Error(`machine ${this.name} was not removed cleanly: ${this.#holder.exitCode}`);
    }
  }

  // The program dies with its nsenter, so a timeout ends both.
  #entered(argv: readonly string[]): readonly string[] {
    const enter = ['nsenter', '--target', String(this.pid), '--all'];
    const limit = `echo 0 >/sys/fs/cgroup/blkio/${this.name}/cgroup.procs; exec "$@"`;
    const limited = this.#hasSlowDisk ? ['sh', '-c', limit, 'sh'] : [];
    return [...enter, ...limited, 'setpriv', '--pdeathsig', 'KILL', '--', ...argv];
  }
}
