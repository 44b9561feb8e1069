import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pause } from '../async/deadline.ts';
import { replaceFileSync } from '../async/replace-file.ts';
import type { ToolRunner } from '../dataplane/process.ts';
import { CalicoError, hasErrorCode } from '../errors/error.ts';
import { askBird, type ReplyLine } from './control.ts';
import { protocolStates, type ProtocolState } from './protocol-states.ts';

/** What became of a configuration. */
export type Applied = 'unchanged' | 'configured' | 'started';

const debianPackage = 'bird2';
const endMs = 10_000;
/** BIRD reads the kernel's routes this often. */
const scanMs = 2000;

/** Returns the folder of BIRD's files, beside the control socket of the daemon. */
export function birdFolder(controlSocket: string): string {
  return join(dirname(controlSocket), 'bird');
}

/**
 * The BIRD of this daemon: a process of its own, which continues when the daemon stops or crashes, so that its sessions
 * do. It is known by its control socket. All of its files are in one folder, readable for root only because the
 * configuration contains passwords.
 */
export class Bird {
  readonly logFile: string;
  readonly #folder: string;
  readonly #runner: Pick<ToolRunner, 'run'>;

  constructor(folder: string, runner: Pick<ToolRunner, 'run'>) {
    this.#folder = folder;
    this.#runner = runner;
    this.logFile = this.#file('bird.log');
  }

  /** Whether it has run since the host's start: a configuration is there. */
  get hasRun(): boolean {
    return existsSync(this.#file('bird.conf'));
  }

  /** Returns the sessions; `undefined` if it does not run. */
  async states(signal: AbortSignal): Promise<readonly ProtocolState[] | undefined> {
    const lines = await this.ask('show protocols all', signal);
    return lines && protocolStates(lines);
  }

  /**
   * Makes BIRD run with a configuration, after BIRD itself has checked it; does nothing if it does already. Sessions whose
   * own options do not change continue. Throws `kernel/tool-missing` without BIRD and `bgp/config-refused`, and BIRD
   * continues with the configuration before.
   */
  async apply(text: string, signal: AbortSignal): Promise<Applied> {
    const file = this.#file('bird.conf');
    const isSame = this.hasRun && readFileSync(file, 'utf8') === text;
    const isRunning = (await this.ask('show status', signal)) !== undefined;
    if (isSame && isRunning) return 'unchanged';
    if (!isSame) await this.#replace(text, signal);
    if (!isRunning) {
      await this.#start(signal);
      return 'started';
    }
    await this.ask('configure', signal);
    return 'configured';
  }

  /**
   * Ends it for good with a configuration that writes no routes to the kernel: BIRD removes its own. Peers keep their
   * routes to this node for their restart time.
   */
  async stop(last: string, signal: AbortSignal): Promise<void> {
    if (!this.hasRun) return;
    const isRunning = (await this.ask('show status', signal)) !== undefined;
    // One that died starts as new: while it recovers, it would leave the kernel's routes as they are.
    if (!isRunning) rmSync(this.#file('bird.pid'), { force: true });
    await this.apply(last, signal);
    await pause(2 * scanMs, signal);
    await this.ask('graceful restart', signal);
    const end = performance.now() + endMs;
    while ((await this.ask('show status', signal)) !== undefined) {
      if (performance.now() > end) throw new Error('BIRD does not end');
      await pause(100, signal);
    }
    rmSync(this.#file('bird.conf'), { force: true });
  }

  async #replace(text: string, signal: AbortSignal): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const next = this.#file('next.conf');
    replaceFileSync(next, text, 0o600);
    try {
      await this.#runner.run(['bird', '-p', '-c', next], { debianPackage }, signal);
    } catch (error) {
      if (!(error instanceof CalicoError) || error.code !== 'kernel/tool-failed') throw error;
      const why = error.message.replaceAll(`${next}:`, 'line ');
      throw new CalicoError('bgp/config-refused', { why }, { cause: error });
    }
    renameSync(next, this.#file('bird.conf'));
  }

  async #start(signal: AbortSignal): Promise<void> {
    const [config, socket, pid] = ['bird.conf', 'bird.ctl', 'bird.pid'].map((name) =>
      this.#file(name),
    );
    // After a crash its routes are in the kernel, and peers wait for it; after a boot nothing is to be recovered.
    const wasRunning = pid !== undefined && existsSync(pid);
    const argv = ['bird', '-c', config ?? '', '-s', socket ?? '', '-P', pid ?? ''];
    await this.#runner.run([...argv, ...(wasRunning ? ['-R'] : [])], { debianPackage }, signal);
  }

  /** Returns the lines of the reply to a command; `undefined` if it does not run. */
  async ask(command: string, signal: AbortSignal): Promise<readonly ReplyLine[] | undefined> {
    try {
      return await askBird(this.#file('bird.ctl'), command, signal);
    } catch (error) {
      if (hasErrorCode(error, 'ENOENT') || hasErrorCode(error, 'ECONNREFUSED')) return undefined;
      throw error;
    }
  }

  #file(name: string): string {
    return `${this.#folder}/${name}`;
  }
}
