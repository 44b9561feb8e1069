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

/** Which of the two ways into the kernel the `iptables` commands of a machine take. */
export type IptablesBackend = 'legacy' | 'nft';

/** What a machine is made of. */
export interface MachineOptions {
  /** The folder of the root file system that it sees; it is never written to. */
  readonly root: string;
  readonly backend: IptablesBackend;
  /** With an uplink it has a default route, by way of a router that knows no container's address. */
  readonly uplink: boolean;
  /** A folder that keeps what it writes from one machine to the next; nothing is kept without. */
  readonly disk?: string;
  /**
   * How many writes a second the disk does on which Docker and calico-cnm keep their data, so that it is waited for
   * as for a real one: at 20, for 40 ms whenever a file is flushed. If not given, the data is in memory.
   */
  readonly writesPerSecond?: number;
  /** What it calls itself; a name that no other machine has, if not given. */
  readonly hostname?: string;
  /** Whether its first process is systemd, which the root must have; it starts what is enabled. */
  readonly systemd?: boolean;
  /** Whether it has no calico-cnm: for what installs it. */
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

/** Makes a machine: network, mount, uts, ipc and process namespaces of its own over the given root. */
export async function startMachine(options: MachineOptions): Promise<Machine> {
  const name = `calico-lab-${process.pid}-${++machinesMade}`;
  const holder = tracked(
    name,
    spawn(
      `${import.meta.dirname}/machine.sh`,
      [
        'hold',
        name,
        options.hostname ?? name,
        options.root,
        checkout,
        options.backend,
        options.uplink ? 'yes' : 'no',
        options.disk ?? '',
        options.bare === true ? '' : `${await builtProgram()}/main.js`,
        options.systemd === true ? 'systemd' : 'none',
        options.writesPerSecond === undefined ? '' : String(options.writesPerSecond),
      ],
      // Of a process group of its own: an interrupt from the terminal must not take it before it has cleaned up.
      { stdio: 'pipe', detached: true, env: environment },
    ),
  );
  const errors: Buffer[] = [];
  holder.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  // Its output ends with it.
  const timer = setTimeout(() => holder.kill('SIGKILL'), 60_000);
  for await (const line of createInterface({ input: holder.stdout })) {
    const pid = /^ready (\d+)$/.exec(line)?.[1];
    if (pid === undefined) continue;
    clearTimeout(timer);
    return new Machine(name, Number(pid), holder, options.writesPerSecond !== undefined);
  }
  clearTimeout(timer);
  throw new Error(`machine ${name} did not start: ${Buffer.concat(errors).toString().trim()}`);
}

/** A machine of namespaces. When it is disposed of, or this process ends in any way, nothing of it is left. */
export class Machine implements AsyncDisposable {
  readonly name: string;
  /** Its first process, as the process namespace of the tests counts. */
  readonly pid: number;
  readonly #holder: ChildProcess;
  readonly #processes: BackgroundProcess[] = [];
  readonly #hasSlowDisk: boolean;

  constructor(name: string, pid: number, holder: ChildProcess, hasSlowDisk: boolean) {
    this.#hasSlowDisk = hasSlowDisk;
    this.name = name;
    this.pid = pid;
    this.#holder = holder;
  }

  /** To put in front of a command that shall run in the machine's network, but see the files of the tests. */
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

  /** The standard output of a command in the machine; throws what it said if it failed. */
  async run(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
    return outputOrThrow(argv, await this.exec(argv, options));
  }

  /** Starts a program in the machine that goes on in the background. */
  spawn(argv: readonly string[], env: Readonly<Record<string, string>> = {}): BackgroundProcess {
    const started = new BackgroundProcess(this.#entered(argv), { ...environment, ...env });
    this.#processes.push(started);
    return started;
  }

  /** Waits until it has ended by itself; answers how its first process ended. */
  async ended(): Promise<number | null> {
    const end = Date.now() + 60_000;
    while (this.#holder.exitCode === null) {
      if (Date.now() > end) throw new Error(`machine ${this.name} does not end`);
      // Who goes down stops all processes first. The nsenter in front of one then stops as well, and must go on: its
      // machine has ended when it has taken note of the end of its program.
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

  // The program dies with the nsenter in front of it, so that a time-out ends both.
  #entered(argv: readonly string[]): readonly string[] {
    const enter = ['nsenter', '--target', String(this.pid), '--all'];
    const limit = `echo 0 >/sys/fs/cgroup/blkio/${this.name}/cgroup.procs; exec "$@"`;
    const limited = this.#hasSlowDisk ? ['sh', '-c', limit, 'sh'] : [];
    return [...enter, ...limited, 'setpriv', '--pdeathsig', 'KILL', '--', ...argv];
  }
}
