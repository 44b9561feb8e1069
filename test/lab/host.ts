import { startCalicoDaemon } from './daemon.ts';
import { engineRoot, furnishedRoot, routingRoot, startDockerd, type Engine } from './engine.ts';
import { ensureTestImage } from './image.ts';
import { startMachine, type IptablesBackend, type Machine } from './machine.ts';
import type { BackgroundProcess, CommandOptions, CommandResult } from './process.ts';

/** Options of a host. */
export interface HostOptions {
  readonly engine: Engine;
  /** The backend of `iptables` on the host; by default nft, as in Debian. */
  readonly backend?: IptablesBackend;
  /** Whether it has a default route (`uplinkAddresses` in machine.ts); by default not. */
  readonly uplink?: boolean;
  /** The environment of dockerd. */
  readonly dockerEnvironment?: Readonly<Record<string, string>>;
  /**
   * Whether systemd, ufw, firewalld, the usual network managers and docker-compose 1.29 are installed; on the older
   * engine only.
   */
  readonly furnished?: boolean;
  /** Whether BIRD 2 and other routers are installed; on the older engine only. */
  readonly routers?: boolean;
  /** A folder that keeps the disk from one host to the next, which is then the same host after a reboot. */
  readonly disk?: string;
  /** As of a machine (machine.ts). */
  readonly writesPerSecond?: number;
  readonly hostname?: string;
  readonly systemd?: boolean;
  readonly bare?: boolean;
}

/** Creates a host in its own namespaces. Docker is installed; only systemd starts it. */
export async function startHost(options: HostOptions): Promise<Host> {
  const machine = await startMachine({
    ...options,
    root: await rootOf(options),
    backend: options.backend ?? 'nft',
    uplink: options.uplink ?? false,
  });
  return new Host(machine, options.dockerEnvironment ?? {});
}

/** A host with Docker and calico-cnm. It shares nothing with other hosts and leaves nothing when disposed of. */
export class Host implements AsyncDisposable {
  readonly machine: Machine;
  readonly #dockerEnvironment: Readonly<Record<string, string>>;
  #dockerd: BackgroundProcess | undefined;
  #calico: BackgroundProcess | undefined;

  constructor(machine: Machine, dockerEnvironment: Readonly<Record<string, string>>) {
    this.machine = machine;
    this.#dockerEnvironment = dockerEnvironment;
  }

  /** The path under which the tests reach a file or socket of the host. */
  path(inside: string): string {
    return this.machine.path(inside);
  }

  /** Runs a command on the host to its end; does not throw for an exit status other than 0. */
  exec(argv: readonly string[], options?: CommandOptions): Promise<CommandResult> {
    return this.machine.exec(argv, options);
  }

  /** Returns the standard output of a command on the host; throws its output if it fails. */
  run(argv: readonly string[], options?: CommandOptions): Promise<string> {
    return this.machine.run(argv, options);
  }

  /** Returns the standard output of the engine's docker client; throws its output if it fails. */
  docker(...argv: readonly string[]): Promise<string> {
    return this.machine.run(['docker', ...argv]);
  }

  /** Returns the standard output of `calico-cnm`; throws its output if it fails. */
  calico(...argv: readonly string[]): Promise<string> {
    return this.machine.run(['calico-cnm', ...argv]);
  }

  /** Starts a program in the background on the host. */
  spawn(argv: readonly string[], env?: Readonly<Record<string, string>>): BackgroundProcess {
    return this.machine.spawn(argv, env);
  }

  /** Starts dockerd, with flags if given; resolves when it responds and has the test image. */
  async startDocker(...flags: readonly string[]): Promise<void> {
    if (running(this.#dockerd)) throw new Error('Docker runs already on this host');
    this.#dockerd = await startDockerd(this.machine, flags, this.#dockerEnvironment);
    await ensureTestImage(this.machine);
  }

  /** Stops dockerd as the system does, with its containers unless it was started with `--live-restore`. */
  async stopDocker(): Promise<void> {
    await this.#dockerd?.end('SIGTERM');
  }

  /** Kills dockerd (and with it its containerd); containers keep running. */
  async killDocker(): Promise<void> {
    await this.#dockerd?.end('SIGKILL');
    // Its containerd is dead as well; its process id may have been reused.
    await this.machine.run([
      'rm',
      '-f',
      '/run/docker/containerd/containerd.pid',
      '/run/docker.pid',
    ]);
  }

  /** Stops dockerd (SIGSTOP): it accepts connections and does not respond. */
  pauseDocker(): void {
    this.#dockerd?.signal('SIGSTOP');
  }

  resumeDocker(): void {
    this.#dockerd?.signal('SIGCONT');
  }

  /** Returns the log of dockerd since its last start. */
  dockerLog(): string {
    return this.#dockerd?.output() ?? '';
  }

  /** Starts calico-cnm with the settings; resolves when Docker can use it. */
  async startCalico(env?: Readonly<Record<string, string>>): Promise<void> {
    if (running(this.#calico)) throw new Error('calico-cnm runs already on this host');
    this.#calico = await startCalicoDaemon(this.machine, env);
  }

  /** Stops calico-cnm as the system does; returns its exit status. */
  async stopCalico(): Promise<number | undefined> {
    return this.#calico?.end('SIGTERM');
  }

  /** Kills calico-cnm. */
  async killCalico(): Promise<void> {
    await this.#calico?.end('SIGKILL');
  }

  /** The running calico-cnm; `undefined` if it is stopped or was killed. */
  get calicoProcess(): BackgroundProcess | undefined {
    return running(this.#calico) ? this.#calico : undefined;
  }

  /** Returns the log of calico-cnm since its last start. */
  calicoLog(): string {
    return this.#calico?.output() ?? '';
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.machine[Symbol.asyncDispose]();
  }
}

function rootOf({ engine, furnished, routers }: HostOptions): Promise<string> {
  if (furnished === true) return furnishedRoot();
  return routers === true ? routingRoot() : engineRoot(engine);
}

function running(process: BackgroundProcess | undefined): boolean {
  return process !== undefined && process.status === undefined;
}
