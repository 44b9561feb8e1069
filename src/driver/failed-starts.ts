import { backoffMs, pause, withDeadline } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import type { Logger } from '../telemetry/log.ts';
import type { DockerApi } from './docker/docker-api.ts';

export interface FailedStartsDeps {
  readonly docker: DockerApi;
  readonly log: Logger;
  /** Whether the datastore can be read and written now. */
  readonly isDatastoreBack: () => boolean;
}

const firstLookMs = 1000;
const longestMs = 30_000;
const answerMs = 5000;
/** A refused call of which no container says so by then was somebody's who is gone. */
const patienceMs = 60_000;

/**
 * Starts the containers whose start failed only because the datastore was away: Docker itself tries once, at
 * boot, and never again. Such a container is known by the call's id at the end of the error that Docker keeps
 * of it, so that nothing is started that was stopped, or failed for another reason. Only containers that have
 * a restart policy are: of the others somebody was told.
 */
export class FailedStarts {
  readonly #deps: FailedStartsDeps;
  readonly #refused = new Map<string, number>();

  constructor(deps: FailedStartsDeps) {
    this.#deps = deps;
  }

  /** A call of Docker's was refused with an error of that code. */
  refused(callId: string, code: string): void {
    if (code.startsWith('datastore/')) this.#refused.set(callId, Date.now());
  }

  /** Looks for such containers until the signal is aborted; Docker is asked only after a refusal. */
  async run(work: Work, signal: AbortSignal): Promise<void> {
    let delays = backoffMs(firstLookMs, longestMs);
    while (!signal.aborted) {
      await pause(this.#refused.size === 0 ? firstLookMs : delays.next().value, signal);
      if (this.#refused.size === 0) delays = backoffMs(firstLookMs, longestMs);
      else if (this.#deps.isDatastoreBack()) await this.#startAll(work, signal);
    }
  }

  async #startAll(work: Work, signal: AbortSignal): Promise<void> {
    const { docker, log } = this.#deps;
    const known = new Set(this.#refused.keys());
    try {
      for (const { Id, State } of await docker.containers(withDeadline(signal, answerMs))) {
        if (State === 'running' || State === 'removing') continue;
        const start = await docker.lastStart(Id, withDeadline(signal, answerMs));
        const callId = [...known].find((id) => start?.error.includes(`[${id}]`));
        if (start === undefined || callId === undefined) continue;
        this.#refused.delete(callId);
        if (!start.hasRestartPolicy) continue;
        log.info('container started: it had failed to only because the datastore was away', {
          container: start.name,
        });
        await docker.start(Id, withDeadline(signal, longestMs));
      }
      this.#forgetOld(Date.now());
      work.succeeded();
    } catch (error) {
      if (!signal.aborted) work.failed(error);
    }
  }

  #forgetOld(now: number): void {
    for (const [id, at] of this.#refused) if (now - at > patienceMs) this.#refused.delete(id);
  }
}
