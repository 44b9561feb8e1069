import { startCalicoDaemon } from './daemon.ts';
import { engineRoot, furnishedRoot, startDockerd, type Engine } from './engine.ts';
import { ensureTestImage } from './image.ts';
import { startMachine, type IptablesBackend, type Machine } from './machine.ts';
import type { BackgroundProcess, CommandOptions, CommandResult } from './process.ts';

/** What a host has. */
export interface HostOptions {
  readonly engine: Engine;
  /** What `iptables` is on the host; Debian's default, nft, if not given. */
  readonly backend?: IptablesBackend;
  /** Whether it has a default route (`uplinkAddresses` in machine.ts); none if not given. */
  readonly uplink?: boolean;
  /** The environment of dockerd. */
  readonly dockerEnvironment?: Readonly<Record<string, string>>;
  /** Whether systemd, ufw, firewalld, the usual network managers and docker-compose 1.29 are installed; on the older engine only. */
  readonly furnished?: boolean;
  /** A folder that keeps what is written from one host to the next, which then is the same one after a reboot. */
  readonly disk?: string;
  /** As of a machine (machine.ts). */
  readonly writesPerSecond?: number;
  readonly hostname?: string;
  readonly systemd?: boolean;
  readonly bare?: boolean;
}

/** Makes a host in namespaces of its own. Docker is installed on it and does not run yet, but by systemd. */
export async function startHost(options: HostOptions): Promise<Host> {
  const machine = await startMachine({
    ...options,
    root: options.furnished === true ? await furnishedRoot() : await engineRoot(options.engine),
    backend: options.backend ?? 'nft',
    uplink: options.uplink ?? false,
  });
  return new Host(machine, options.dockerEnvironment ?? {});
}

/** A host with Docker and calico-cnm. It shares nothing with others, and leaves nothing when disposed of. */
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

  /** Runs a command on the host to its end; a status other than 0 is an answer. */
  exec(argv: readonly string[], options?: CommandOptions): Promise<CommandResult> {
    return this.machine.exec(argv, options);
  }

  /** The standard output of a command on the host; throws what it said if it failed. */
  run(argv: readonly string[], options?: CommandOptions): Promise<string> {
    return this.machine.run(argv, options);
  }

  /** The standard output of the engine's own docker client; throws what it said if it failed. */
  docker(...argv: readonly string[]): Promise<string> {
    return this.machine.run(['docker', ...argv]);
  }

  /** The standard output of `calico-cnm`; throws what it said if it failed. */
  calico(...argv: readonly string[]): Promise<string> {
    return this.machine.run(['calico-cnm', ...argv]);
  }

  /** Starts a program on the host that goes on in the background. */
  spawn(argv: readonly string[], env?: Readonly<Record<string, string>>): BackgroundProcess {
    return this.machine.spawn(argv, env);
  }

  /** Starts dockerd, by flags if given; it answers and has the test image when this returns. */
  async startDocker(...flags: readonly string[]): Promise<void> {
    if (running(this.#dockerd)) throw new Error('Docker runs already on this host');
    this.#dockerd = await startDockerd(this.machine, flags, this.#dockerEnvironment);
    await ensureTestImage(this.machine);
  }

  /** Stops dockerd as the system does, with its containers unless it was started with `--live-restore`. */
  async stopDocker(): Promise<void> {
    await this.#dockerd?.end('SIGTERM');
  }

  /** Kills dockerd (and with it its containerd); what runs in containers goes on. */
  async killDocker(): Promise<void> {
    await this.#dockerd?.end('SIGKILL');
    // Its containerd is dead as well; its process id may be somebody else's by now.
    await this.machine.run([
      'rm',
      '-f',
      '/run/docker/containerd/containerd.pid',
      '/run/docker.pid',
    ]);
  }

  /** dockerd stands still: it takes connections and answers nothing. */
  pauseDocker(): void {
    this.#dockerd?.signal('SIGSTOP');
  }

  resumeDocker(): void {
    this.#dockerd?.signal('SIGCONT');
  }

  /** Everything that dockerd has logged since it was started last. */
  dockerLog(): string {
    return this.#dockerd?.output() ?? '';
  }

  /** Starts calico-cnm with the settings; Docker can use it when this returns. */
  async startCalico(env?: Readonly<Record<string, string>>): Promise<void> {
    if (running(this.#calico)) throw new Error('calico-cnm runs already on this host');
    this.#calico = await startCalicoDaemon(this.machine, env);
  }

  /** Stops calico-cnm as the system does; answers its exit status. */
  async stopCalico(): Promise<number | undefined> {
    return this.#calico?.end('SIGTERM');
  }

  /** Kills calico-cnm. */
  async killCalico(): Promise<void> {
    await this.#calico?.end('SIGKILL');
  }

  /** Everything that calico-cnm has logged since it was started last. */
  calicoLog(): string {
    return this.#calico?.output() ?? '';
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.machine[Symbol.asyncDispose]();
  }
}

function running(process: BackgroundProcess | undefined): boolean {
  return process !== undefined && process.status === undefined;
}
